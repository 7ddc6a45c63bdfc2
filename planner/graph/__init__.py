"""From an ONNX file to a simplified, shape-bound graph."""
