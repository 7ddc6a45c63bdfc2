"""Formats per layer: how they are built, what they do to the outputs."""
