"""Runs engines on a target machine: sees spec and below only; needs neither solver nor onnx."""
