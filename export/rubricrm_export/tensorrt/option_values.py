"""What the options of `rubricrm export tensorrt` may be. Imports nothing, so that help is quick."""

READERS = ("tensorrt-llm", "tensorrt-llm-1.2", "edge-llm", "vllm")
WEIGHTS = ("fp16", "bf16", "fp8", "int8", "int4")
KV_CACHES = ("model", "fp8", "int8")
METHODS = ("rtn", "gptq", "awq", "smoothquant")
HEADS = ("model", "fp8", "int4")
