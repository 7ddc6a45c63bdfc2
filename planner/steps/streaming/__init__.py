"""A plan for this machine whose weights do not all fit: some stay, the others come with every run.

model     what is cut into parts, and what a process takes without any weight
decide    runs of operators, timed both ways, and which of them keep their weights
plan      the way in: parts, prediction, refusals
document  plan.json
"""
