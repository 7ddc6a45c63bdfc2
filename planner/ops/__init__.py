"""What each ONNX operator means, one file a family."""
