"""What this installation can do here: versions, kernels, devices, cores, memory, and what is missing."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rubricrm._version import __version__
from rubricrm.errors import RubricrmError
from rubricrm.runtime.byte_size import byte_text
from rubricrm.runtime.cache_directory import cache_directory, cache_problem
from rubricrm.runtime.graph import runtime_facts
from rubricrm.runtime.installation import (
    install_command,
    installed_version,
    is_gpu_package_installed,
    runtime_conflict,
)
from rubricrm.runtime.kernels import find_kernels
from rubricrm.runtime.machine import total_memory_bytes, usable_cores

# What each part needs, by distribution name; the part's name is that of the extra.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "base": ("click", "numpy", "safetensors", "tokenizers"),
    "export": ("jinja2", "ml_dtypes", "onnx", "onnx-ir", "rich"),
    "hub": ("huggingface_hub",),
}
_WIDTH = 13


@dataclass(frozen=True)
class Checkup:
    """The findings. `problems` says what is missing and how to get it; `can_generate` whether rubrics can be made."""

    facts: Mapping[str, Any]
    problems: tuple[str, ...]
    can_generate: bool

    def to_dict(self) -> dict[str, Any]:
        """Return what `rubricrm doctor --json` prints."""
        return {**self.facts, "problems": list(self.problems), "can_generate": self.can_generate}

    def to_text(self) -> str:
        """Return what `rubricrm doctor` prints: a fact, a device or a problem per line."""
        lines = [*self._fact_lines(), *(f"{'problem':{_WIDTH}} {problem}" for problem in self.problems)]
        result = "rubrics can be generated" if self.can_generate else "NOT able to generate"
        return "\n".join([*lines, f"{'result':{_WIDTH}} {result}"])

    def _fact_lines(self) -> Iterator[str]:
        runtime = self.facts["runtime"]
        memory = self.facts["memory_bytes"]
        yield f"{'rubricrm':{_WIDTH}} {self.facts['rubricrm']}"
        yield f"{'python':{_WIDTH}} {self.facts['python']}"
        yield f"{'platform':{_WIDTH}} {self.facts['platform']}"
        yield f"{'onnxruntime':{_WIDTH}} {runtime.get('onnxruntime', 'missing')}"
        yield f"{'kernels':{_WIDTH}} {_kernels_text(self.facts['kernels'])}"
        for name, found in runtime.get("devices", {}).items():
            yield f"{'device':{_WIDTH}} {name:{_WIDTH}} {found}"
        for part, packages in self.facts["packages"].items():
            listed = ", ".join(f"{name} {found or 'missing'}" for name, found in packages.items())
            yield f"{'packages':{_WIDTH}} {part:{_WIDTH}} {listed}"
        yield f"{'usable cores':{_WIDTH}} {self.facts['usable_cores']}"
        yield f"{'memory':{_WIDTH}} {'unknown' if memory is None else byte_text(memory)}"
        yield f"{'cache':{_WIDTH}} {self.facts['cache'] or 'none'}"


def examine() -> Checkup:
    """Look at the installation and the machine. Loads ONNX Runtime and, where installed, CUDA; runs nothing."""
    problems = []
    runtime: dict[str, Any] = {}
    try:
        runtime = runtime_facts()
    except RubricrmError as error:
        problems.append(str(error))
    if conflict := runtime_conflict():
        problems.append(conflict)
    # Whoever installed the package for GPUs wants one; for others it is a fact, not a problem.
    cuda = runtime.get("devices", {}).get("cuda", "ready")
    if cuda != "ready" and is_gpu_package_installed():
        problems.append(f"device cuda cannot be used: {cuda}")
    packages = {part: {name: installed_version(name) for name in names} for part, names in _PARTS.items()}
    for part, found in packages.items():
        missing = [name for name, installed in found.items() if installed is None]
        if missing:
            extras = () if part == "base" else (part,)
            problems.append(f"{', '.join(missing)} not installed: for {part}, {install_command(*extras)}.")
    if problem := cache_problem():
        problems.append(f"nothing is kept between runs: {problem}")
    facts = {
        "rubricrm": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "runtime": runtime,
        "kernels": _kernel_facts(),
        "packages": packages,
        "usable_cores": usable_cores(),
        "memory_bytes": total_memory_bytes(),
        "cache": _cache_name(),
    }
    return Checkup(facts, tuple(problems), bool(runtime) and all(packages["base"].values()))


def _kernel_facts() -> dict[str, str | None]:
    """Return what this project's library of kernels is, or why it is not used: then ONNX Runtime's own run."""
    facts = asdict(find_kernels())
    return {name: None if value is None else str(value) for name, value in facts.items()}


def _kernels_text(facts: Mapping[str, str | None]) -> str:
    if facts["problem"] is not None:
        return f"onnxruntime's own: {facts['problem']}"
    return f"rubricrm {facts['instruction_set']}, operators {facts['operators']} ({facts['library']})"


def _cache_name() -> str | None:
    try:
        return str(cache_directory())
    except OSError:
        return None
