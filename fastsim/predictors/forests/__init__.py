"""Random forests that predict operator times: features, training, intervals, ONNX."""
