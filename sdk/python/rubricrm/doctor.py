"""What this installation can do here: versions, providers, cores, memory, and what is missing."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rubricrm._version import __version__
from rubricrm.errors import RubricrmError
from rubricrm.runtime.cuda import is_gpu_package_installed
from rubricrm.runtime.machine import cache_directory, total_memory_bytes, usable_cores
from rubricrm.runtime.session import runtime_facts

# What each part needs, by distribution name; the part's name is that of the extra.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "base": ("click", "numpy", "safetensors", "tokenizers"),
    "export": ("jinja2", "ml_dtypes", "onnx", "onnx-ir", "rich"),
    "hub": ("huggingface_hub",),
}


@dataclass(frozen=True)
class Checkup:
    """The findings. `problems` says what is missing and how to get it; `can_generate` whether rubrics can be made."""

    facts: Mapping[str, Any]
    problems: tuple[str, ...]
    can_generate: bool

    def to_dict(self) -> dict[str, Any]:
        """Return what `rubricrm doctor --json` prints."""
        return {**self.facts, "problems": list(self.problems), "can_generate": self.can_generate}


def examine() -> Checkup:
    """Look at the installation and the machine. Loads ONNX Runtime and, where installed, CUDA; runs nothing."""
    problems = []
    runtime: dict[str, Any] = {}
    try:
        runtime = runtime_facts()
    except RubricrmError as error:
        problems.append(str(error))
    # Whoever installed the package for GPUs wants one; for others it is a fact, not a problem.
    cuda = runtime.get("devices", {}).get("cuda", "ready")
    if cuda != "ready" and is_gpu_package_installed():
        problems.append(f"device cuda cannot be used: {cuda}")
    packages = {part: {name: _version(name) for name in names} for part, names in _PARTS.items()}
    for part, found in packages.items():
        missing = [name for name, installed in found.items() if installed is None]
        if missing:
            what = "rubricrm" if part == "base" else f"rubricrm[{part}]"
            problems.append(f"{', '.join(missing)} not installed: for {part}, pip install '{what}'.")
    if problem := _cache_problem():
        problems.append(problem)
    facts = {
        "rubricrm": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "runtime": runtime,
        "packages": packages,
        "usable_cores": usable_cores(),
        "memory_bytes": total_memory_bytes(),
        "cache": str(cache_directory()),
    }
    return Checkup(facts, tuple(problems), bool(runtime) and all(packages["base"].values()))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cache_problem() -> str | None:
    directory = cache_directory()
    existing = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    if existing.is_dir() and os.access(existing, os.W_OK):
        return None
    return f"the cache {directory} cannot be written: set RUBRICRM_CACHE to a directory that can."
