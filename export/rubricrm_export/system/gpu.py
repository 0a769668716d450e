"""The GPU of this machine, as its driver tells it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from rubricrm.errors import DependencyMissing


@dataclass(frozen=True)
class Gpu:
    """What nvidia-smi says of the first GPU.

    Attributes:
        name: Its name.
        capability: Its compute capability times ten: 90 for an H100.
        memory_bytes: All of its memory.
    """

    name: str
    capability: int
    memory_bytes: int


def find_gpu() -> Gpu:
    """Ask nvidia-smi for the first GPU.

    Raises:
        DependencyMissing: There is none, or no driver.
    """
    fields = "name,compute_cap,memory.total"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        name, capability, mebibytes = (part.strip() for part in result.stdout.splitlines()[0].split(","))
        major, minor = capability.split(".")
        return Gpu(name, 10 * int(major) + int(minor), int(mebibytes) << 20)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise DependencyMissing(
            f"no GPU was found: nvidia-smi failed ({error}). An engine is built on the GPU that it runs on: install "
            "NVIDIA's driver, or run this where it is."
        ) from error
