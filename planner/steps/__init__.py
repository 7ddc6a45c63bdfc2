"""The steps of the story that `planner/pipeline.py` tells, one file a step."""
