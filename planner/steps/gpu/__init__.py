"""Plans for a GPU of this machine through ONNX Runtime: measured there, like those for the CPU."""
