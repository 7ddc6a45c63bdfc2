"""Sections of gpu_constants.py, a file each."""
