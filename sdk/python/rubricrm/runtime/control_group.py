"""Limits of the control groups that this process is in: its own and every parent, of version 1 and 2.

Groups form a tree, and a limit holds for all below it: a service in a limited slice has no file with a limit of its
own. Where the trees are mounted is read from `mountinfo`. A file that is missing or malformed limits nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_DEFAULT_MOUNT = "/sys/fs/cgroup"
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_NUMBER = re.compile(r"-?[0-9]{1,30}")

Read = Callable[[Path], float | None]


@dataclass(frozen=True)
class _Mount:
    """A mounted tree of groups.

    Attributes:
        point: Where it is mounted.
        group: The group that is seen there: "/" for the whole tree.
        controllers: Of version 1: what is limited in this tree. Empty for version 2.
    """

    point: str
    group: str
    controllers: frozenset[str]


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the tightest CPU quota in cores, or None where there is none.

    Args:
        root: The directory in which /proc and /sys lie.
    """
    return _tightest(root, "cpu", _cpu_max, _cfs_quota)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the tightest limit of memory in bytes, or None where there is none; `root` as in `cpu_quota`.

    A process above `memory.high` is not killed, but slowed until it hardly moves: it counts as a limit.
    """
    found = _tightest(root, "memory", _memory_max, _memory_limit)
    return None if found is None else int(found)


def _tightest(root: Path, controller: str, read_2: Read, read_1: Read) -> float | None:
    limits: list[float] = []
    for directory, is_version_1 in _directories(root, controller):
        limit = (read_1 if is_version_1 else read_2)(directory)
        if limit is not None:
            limits.append(limit)
    return min(limits, default=None)


def _directories(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the directories of the groups that may limit a controller, and whether they are of version 1."""
    mounts = list(_mounts(root))
    for controllers, group in _groups(root):
        if controllers and controller not in controllers:
            continue
        places = [mount for mount in mounts if _is_tree_of(mount, controllers, controller)]
        for directory in _lineages(places or _usual_mounts(controllers, controller), group):
            yield _below(root, directory), bool(controllers)


def _is_tree_of(mount: _Mount, controllers: frozenset[str], controller: str) -> bool:
    return controller in mount.controllers if controllers else not mount.controllers


def _groups(root: Path) -> list[tuple[frozenset[str], str]]:
    """Return the controllers and the path of each group that this process is in; version 2 names no controllers."""
    lines = _read(_below(root, "/proc/self/cgroup")).split("\n")
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number.isdecimal() and group.startswith("/"):
            found.append((frozenset(filter(None, controllers.split(","))), group))
    return found or [(frozenset(), "/"), (frozenset({"cpu"}), "/"), (frozenset({"memory"}), "/")]


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _read(_below(root, "/proc/self/mountinfo")).split("\n"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        options = kind[-1].split(",") if kind[0] == "cgroup" else ()
        yield _Mount(_unescaped(fields[4]), _unescaped(fields[3]), frozenset(options))


def _unescaped(field: str) -> str:
    """Return a path of `mountinfo`, in which white space is written as octal numbers."""
    raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), os.fsencode(field))
    return os.fsdecode(raw)


def _usual_mounts(controllers: frozenset[str], controller: str) -> list[_Mount]:
    """Return where the trees are by convention, for where `mountinfo` does not tell."""
    if not controllers:
        return [_Mount(_DEFAULT_MOUNT, "/", frozenset())]
    return [
        _Mount(f"{_DEFAULT_MOUNT}/{name}", "/", controllers) for name in {controller, ",".join(sorted(controllers))}
    ]


def _lineages(mounts: list[_Mount], group: str) -> Iterator[str]:
    """Yield the directory of a group and of its parents, as far as they are mounted.

    A container may see its own group at the mount point, and yet be told the group's path on the host; or be in a
    group outside what it sees. Then the mount point is all that can be looked at.
    """
    inside = [(mount, names) for mount in mounts if (names := _names_below(mount, group)) is not None]
    for mount, names in inside or [(mount, ()) for mount in mounts]:
        for length in range(len(names), -1, -1):
            yield "/".join((mount.point, *names[:length]))


def _names_below(mount: _Mount, group: str) -> tuple[str, ...] | None:
    """Return the names that lead from a mount point to a group, None where it is not in that part of the tree."""
    try:
        names = PurePosixPath(group).relative_to(mount.group).parts
    except ValueError:
        return None
    return None if ".." in names else names


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _read(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes())
    except (OSError, ValueError):
        return ""


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _cpu_max(directory: Path) -> float | None:
    quota, _, period = _read(directory / "cpu.max").strip().partition(" ")
    return _cores(_number(quota), _number(period))


def _cfs_quota(directory: Path) -> float | None:
    quota, period = (_number(_read(directory / f"cpu.cfs_{name}_us").strip()) for name in ("quota", "period"))
    return _cores(quota, period)


def _cores(quota: int | None, period: int | None) -> float | None:
    return quota / period if quota and period and quota > 0 and period > 0 else None


def _memory_max(directory: Path) -> float | None:
    limits = (_number(_read(directory / name).strip()) for name in ("memory.max", "memory.high"))
    return min((limit for limit in limits if limit is not None and limit > 0), default=None)


def _memory_limit(directory: Path) -> float | None:
    limit = _number(_read(directory / "memory.limit_in_bytes").strip())
    return limit if limit is not None and limit > 0 else None
