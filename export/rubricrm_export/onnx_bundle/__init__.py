"""`rubricrm export onnx`: plan, calibrate, write, measure, publish."""
