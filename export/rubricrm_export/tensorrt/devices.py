"""The devices: what each of them has, and what runs on it. The only table of them; imports nothing heavy.

Compute capabilities: NVIDIA's table of CUDA GPUs (developer.nvidia.com/cuda-gpus). Memory and bandwidth: their makers'
figures, not measured here. Readers: the platforms that Edge-LLM 0.11 lists and ships libraries for, those that
TensorRT-LLM lists, and ONNX Runtime's package for CUDA, which exists for x86-64 alone.
"""

from __future__ import annotations

from dataclasses import dataclass

FP8_CAPABILITY = 89  # the first GPUs that multiply E4M3
ONNX_RUNTIME = "onnxruntime"

_GB = 10**9
_SERVERS = ("tensorrt-llm", "tensorrt-llm-1.2", "vllm")
_X86 = (*_SERVERS, ONNX_RUNTIME)
_X86_EDGE = ("edge-llm", *_X86)
_JETSON = ("edge-llm", "vllm")


@dataclass(frozen=True)
class DeviceFacts:
    """A device.

    Attributes:
        name: As `--device` calls it.
        capability: Compute capability times ten: 90 for an H100.
        memory_bytes: Of the GPU; of boards whose CPU and GPU share it, all of it.
        bytes_per_s: Of its memory.
        readers: What runs on it: readers of `rubricrm export tensorrt`, and "onnxruntime".
        source: Where memory and bandwidth stand.
        is_shared: Whether the system lives in the same memory.
    """

    name: str
    capability: int
    memory_bytes: int
    bytes_per_s: float
    readers: tuple[str, ...]
    source: str
    is_shared: bool = False

    @property
    def has_fp8(self) -> bool:
        """Whether it multiplies FP8 numbers."""
        return self.capability >= FP8_CAPABILITY


def _jetson(name: str, capability: int, memory_gb: float, gb_per_s: float, module: str) -> DeviceFacts:
    source = f"Jetson modules, technical specifications ({module})"
    return DeviceFacts(name, capability, int(memory_gb * _GB), gb_per_s * _GB, _JETSON, source, is_shared=True)


def _gpu(
    name: str, capability: int, memory_gb: float, gb_per_s: float, source: str, readers: tuple[str, ...]
) -> DeviceFacts:
    return DeviceFacts(name, capability, int(memory_gb * _GB), gb_per_s * _GB, readers, source)


_SPARK = DeviceFacts(
    "dgx-spark", 121, 128 * _GB, 273e9, ("edge-llm", *_SERVERS), "DGX Spark data sheet", is_shared=True
)
DEVICES = {
    device.name: device
    for device in (
        _jetson("orin-nano", 87, 8, 102, "Orin Nano Super 8GB"),
        _jetson("orin-nx", 87, 16, 102.4, "Orin NX 16GB"),
        _jetson("agx-orin", 87, 64, 204.8, "AGX Orin 64GB"),
        _jetson("thor", 110, 128, 273, "T5000"),
        _SPARK,
        _gpu("rtx-3090", 86, 24, 936, "GeForce RTX 3090 specifications", _X86_EDGE),
        _gpu("rtx-4090", 89, 24, 1008, "GeForce RTX 4090 specifications", _X86),
        _gpu("rtx-5090", 120, 32, 1792, "GeForce RTX 5090 specifications", _X86_EDGE),
        _gpu("a10", 86, 24, 600, "A10 data sheet", _X86_EDGE),
        _gpu("l4", 89, 24, 300, "L4 data sheet", _X86),
        _gpu("l40s", 89, 48, 864, "L40S data sheet", _X86),
        _gpu("a100", 80, 80, 2039, "A100 80GB SXM data sheet", _X86_EDGE),
        _gpu("h100", 90, 80, 3350, "H100 SXM data sheet", _X86),
        _gpu("h200", 90, 141, 4800, "H200 data sheet", _X86),
        _gpu("b200", 100, 180, 8000, "HGX B200 data sheet", _X86_EDGE),
    )
}
