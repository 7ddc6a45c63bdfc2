"""Writes plan.json and the engine directory."""
