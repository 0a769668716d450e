"""The float model beside the quantized one, layer by layer, over a text: matrices rounded on what they will meet."""
