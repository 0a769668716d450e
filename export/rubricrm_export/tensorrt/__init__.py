"""Directories for TensorRT-LLM, TensorRT Edge-LLM and vLLM: what each reader takes, and the files that say it."""
