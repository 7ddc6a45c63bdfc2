"""Runs fused engines: compiled kernels, packed weights and a launch schedule, as one CUDA graph.

Needs NumPy and `cuda-bindings` (part of cuda-core): no compiler, no torch, no pydantic, no onnx.
"""
