"""What the process may use of the machine: affinity, control groups and physical memory together."""

import os
from pathlib import Path

import pytest
from rubricrm.runtime.machine import total_memory_bytes, usable_cores

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def limited(root: Path, **files: str) -> Path:
    """Limit the group that the process is in, at the usual mount."""
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    for name, contents in files.items():
        (group / name.replace("_", ".")).write_text(contents)
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 1),
        ("50000 100000\n", 1),
        ("6400000 100000\n", 8),
    ],
    ids=["no-limit", "two", "one-and-a-half", "half", "more-than-there-are"],
)
@pytest.mark.usefixtures("eight_cores")
def test_the_usable_cores_are_the_affinity_less_the_quota(tmp_path: Path, quota: str, cores: int) -> None:
    assert usable_cores(limited(tmp_path, cpu_max=quota)) == cores


def test_cores_that_the_affinity_leaves_out_are_not_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = limited(tmp_path, cpu_max="400000 100000\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cores(root) == 1


@pytest.mark.parametrize(("count", "cores"), [(6, 6), (None, 1)])
def test_without_affinity_all_cores_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int | None, cores: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cores(tmp_path) == cores


def test_there_is_always_a_usable_core() -> None:
    assert usable_cores() >= 1


def test_memory_is_less_than_a_containers_limit(tmp_path: Path) -> None:
    assert total_memory_bytes(limited(tmp_path, memory_max="1048576\n")) == 1048576


@pytest.mark.parametrize("files", [{}, {"memory_max": "max\n"}, {"memory_max": str(PHYSICAL + 1)}], ids=str)
def test_memory_without_a_limit_is_all_there_is(tmp_path: Path, files: dict[str, str]) -> None:
    assert total_memory_bytes(limited(tmp_path, **files)) == PHYSICAL


def test_where_the_system_does_not_tell_its_memory_the_limit_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert total_memory_bytes(tmp_path) is None
    assert total_memory_bytes(limited(tmp_path, memory_max="1048576\n")) == 1048576
