"""Devices to plan for: memory, and the bandwidth that their makers state. Not measured here."""

from __future__ import annotations

from dataclasses import dataclass

_GB = 10**9


@dataclass(frozen=True)
class Device:
    """A device.

    Attributes:
        name: As `--device` calls it.
        memory_bytes: Of the GPU; of boards whose CPU and GPU share it, all of it.
        bytes_per_s: Of its memory.
        is_shared: Whether the system lives in the same memory.
        source: Where the figures stand.
    """

    name: str
    memory_bytes: int
    bytes_per_s: float
    is_shared: bool
    source: str


def _device(name: str, memory_gb: float, gb_per_s: float, source: str, *, is_shared: bool = False) -> Device:
    return Device(name, int(memory_gb * _GB), gb_per_s * _GB, is_shared, source)


_JETSON = "Jetson modules, technical specifications"
_ALL = (
    _device("orin-nano", 8, 102, f"{_JETSON} (Orin Nano Super 8GB)", is_shared=True),
    _device("orin-nx", 16, 102.4, f"{_JETSON} (Orin NX 16GB)", is_shared=True),
    _device("agx-orin", 64, 204.8, f"{_JETSON} (AGX Orin 64GB)", is_shared=True),
    _device("thor", 128, 273, f"{_JETSON} (T5000)", is_shared=True),
    _device("dgx-spark", 128, 273, "DGX Spark data sheet", is_shared=True),
    _device("rtx-3090", 24, 936, "GeForce RTX 3090 specifications"),
    _device("rtx-4090", 24, 1008, "GeForce RTX 4090 specifications"),
    _device("rtx-5090", 32, 1792, "GeForce RTX 5090 specifications"),
    _device("a10", 24, 600, "A10 data sheet"),
    _device("l4", 24, 300, "L4 data sheet"),
    _device("l40s", 48, 864, "L40S data sheet"),
    _device("a100", 80, 2039, "A100 80GB SXM data sheet"),
    _device("h100", 80, 3350, "H100 SXM data sheet"),
    _device("h200", 141, 4800, "H200 data sheet"),
    _device("b200", 180, 8000, "HGX B200 data sheet"),
)
DEVICES = {device.name: device for device in _ALL}
