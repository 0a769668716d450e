"""The decoder as an ONNX graph, one file a part: builder, attention, mlp, decoder."""
