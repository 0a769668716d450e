"""A limit on the cores that this process may use: a control group of its own, as a container has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000


@contextmanager
def limited_to(cores: float) -> Iterator[Path]:
    """Put this process and all of its threads into a new group with a quota; yield the group's directory.

    Raises:
        OSError: Groups cannot be made here: it takes a writable /sys/fs/cgroup, and root.
    """
    is_version_1 = (_ROOT / "cpu").is_dir()
    parent = _ROOT / "cpu" / _own_group("cpu") if is_version_1 else _ROOT / _own_group("")
    group = parent / f"rubricrm-soak-{os.getpid()}"
    group.mkdir()
    try:
        if is_version_1:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(round(cores * _PERIOD_US)))
        else:
            (group / "cpu.max").write_text(f"{round(cores * _PERIOD_US)} {_PERIOD_US}")
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield group
    finally:
        (parent / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def _own_group(controller: str) -> str:
    """Return the path of the group that this process is in, without the first slash."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.lstrip("/")
    return ""
