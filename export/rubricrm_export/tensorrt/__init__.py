"""Directories for TensorRT-LLM, TensorRT Edge-LLM and vLLM: all that needs no GPU, written without their packages."""
