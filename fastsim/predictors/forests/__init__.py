"""Random forests of operator times: features, training, intervals, ONNX."""
