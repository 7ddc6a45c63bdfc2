"""Pipelines: the joint model C1 to C11 of problems with places."""
