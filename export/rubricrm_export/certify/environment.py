"""What a report says of the machine."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rubricrm.errors import DependencyMissing
from rubricrm.runtime.machine import usable_cores

from rubricrm_export.system.gpu import find_gpu

_PACKAGES = ("rubricrm", "onnxruntime", "onnxruntime-gpu", "numpy", "tensorrt-llm", "tensorrt-edgellm", "vllm")


def environment() -> dict[str, Any]:
    """Return processor, GPU and versions of what is installed here. A server may run elsewhere."""
    found: dict[str, Any] = {"system": platform.platform(), "machine": platform.machine(), "cores": usable_cores()}
    try:
        gpu = find_gpu()
        found["gpu"] = f"{gpu.name}, {gpu.memory_bytes / 1e9:.0f} GB, compute capability {gpu.capability / 10}"
    except DependencyMissing:
        found["gpu"] = "none"
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
