"""Measures kernels on the target and keeps every measurement."""
