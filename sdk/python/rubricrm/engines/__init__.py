"""Engines of others in this process: vLLM and TensorRT-LLM, by their Python interfaces."""
