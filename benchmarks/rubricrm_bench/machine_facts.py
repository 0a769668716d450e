"""The machine and the versions that a result belongs to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rubricrm.runtime.machine import total_memory_bytes, usable_cores

_PACKAGES = ("rubricrm", "onnxruntime", "onnxruntime-gpu", "numpy", "tokenizers")
_CPU_INFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def machine_facts() -> dict[str, Any]:
    """Return processor, memory, load and versions; what cannot be told is None."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "usable_cores": usable_cores(),
        "governor": _read(_GOVERNOR),
        "memory_bytes": total_memory_bytes(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _cpu_model() -> str | None:
    for line in (_read(_CPU_INFO) or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
