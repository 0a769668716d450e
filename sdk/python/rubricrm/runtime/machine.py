"""What this process may use of the machine: cores and memory."""

from __future__ import annotations

import os
from pathlib import Path

from rubricrm.runtime.control_group import cpu_quota, memory_limit

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """Return the cores that this process may really use: its affinity, less its control groups' quota, at least 1.

    A container limited to 2 CPUs of a 64-core host reports 64 cores; 64 threads there are slower than 2.

    Args:
        root: The directory in which /proc and /sys lie.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return max(1, affinity if quota is None else min(affinity, int(quota)))


def total_memory_bytes(root: Path = _ROOT) -> int | None:
    """Return the memory that this process may use, None where it cannot be told.

    That is the physical memory, less the limit of its control groups; `root` as in `usable_cores`.
    """
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        physical = None
    limits = [limit for limit in (physical, memory_limit(root)) if limit is not None]
    return min(limits, default=None)
