"""What this process may use of the machine: cores, memory, and its cache directory."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the cores that this process may really use: its affinity, less a container's quota, at least 1.

    A container limited to 2 CPUs of a 64-core host reports 64 cores; 64 threads there are slower than 2.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, affinity if quota is None else min(affinity, int(quota)))


def _cgroup_quota() -> float | None:
    """Return the CPU quota in cores (cgroup v2, then v1), or None where there is none."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (_CGROUP / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def total_memory_bytes() -> int | None:
    """Return the memory this process may use (physical, less a container's limit), None where it cannot be told."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        return min(physical, int((_CGROUP / "memory.max").read_text()))
    except (OSError, ValueError):
        return physical


def cache_directory() -> Path:
    """Return where data that belongs to this machine is kept: $RUBRICRM_CACHE, else the platform's user cache.

    A process without a home, as in some containers, keeps it in the directory for temporary files.
    """
    chosen = os.environ.get("RUBRICRM_CACHE")
    if chosen:
        return Path(chosen)
    try:
        return _user_cache()
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "rubricrm"


def _user_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/rubricrm"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "rubricrm/cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rubricrm"
