"""Graphs of published models with their true structure and shapes, and without their weights."""
