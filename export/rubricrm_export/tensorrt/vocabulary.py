"""The words of `rubricrm export tensorrt`. Imports nothing, so that help is quick."""

READERS = ("tensorrt-llm", "tensorrt-llm-1.2", "edge-llm", "vllm")
WEIGHTS = ("fp16", "bf16", "fp8", "int8", "int4")
KV_CACHES = ("model", "fp8", "int8")
METHODS = ("rtn", "gptq", "awq", "smoothquant")
HEADS = ("model", "fp8", "int4")
# Each with its compute capability: NVIDIA's table of CUDA GPUs (developer.nvidia.com/cuda-gpus).
DEVICES = {
    "a100": 80,
    "a10": 86,
    "rtx-3090": 86,
    "orin": 87,
    "l4": 89,
    "l40s": 89,
    "rtx-4090": 89,
    "h100": 90,
    "h200": 90,
    "b200": 100,
    "thor": 110,
    "rtx-5090": 120,
    "dgx-spark": 121,
}
