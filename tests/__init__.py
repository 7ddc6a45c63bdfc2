"""Tests, one folder a floor of `planner`."""
