"""The decoder as an ONNX graph, one file per part: builder, attention, mlp, decoder."""
