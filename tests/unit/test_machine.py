"""What the process may use of the machine, with the files of a container in place of the real ones."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rubricrm.runtime import machine

Container = Callable[[dict[str, str]], None]


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """Return a function that puts these control group files in place; the process may run on 8 cores."""

    def set_up(files: dict[str, str]) -> None:
        for name, contents in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(contents)
        monkeypatch.setattr(machine, "_CGROUP", tmp_path)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    return set_up


V1_QUOTA, V1_PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu.max": "100000 0\n"}, 8),
        ({"cpu.max": "-1 100000\n"}, 8),
        ({"cpu.max": "rubbish"}, 8),
        ({"cpu.max": "a b"}, 8),
        ({V1_QUOTA: "300000\n", V1_PERIOD: "100000\n"}, 3),
        ({V1_QUOTA: "-1\n", V1_PERIOD: "100000\n"}, 8),
        ({V1_QUOTA: "300000\n"}, 8),
        ({V1_QUOTA: "\n", V1_PERIOD: "\n"}, 8),
        ({"cpu.max": "200000 100000\n", V1_QUOTA: "300000\n", V1_PERIOD: "100000\n"}, 2),
    ],
    ids=[
        "no-container",
        "v2-no-limit",
        "v2-two",
        "v2-one-and-a-half",
        "v2-half",
        "v2-more-than-there-are",
        "v2-period-zero",
        "v2-negative",
        "v2-one-word",
        "v2-no-numbers",
        "v1-three",
        "v1-no-limit",
        "v1-no-period",
        "v1-empty",
        "v2-before-v1",
    ],
)
def test_the_usable_cores_are_the_affinity_less_the_quota(
    container: Container, files: dict[str, str], cores: int
) -> None:
    container(files)
    assert machine.usable_cores() == cores


def test_cores_that_the_affinity_leaves_out_are_not_usable(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    container({"cpu.max": "400000 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert machine.usable_cores() == 1


@pytest.mark.parametrize(("count", "cores"), [(6, 6), (None, 1)])
def test_without_affinity_all_cores_count(
    container: Container, monkeypatch: pytest.MonkeyPatch, count: int | None, cores: int
) -> None:
    container({})
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert machine.usable_cores() == cores


def test_there_is_always_a_usable_core() -> None:
    assert machine.usable_cores() >= 1


def test_memory_is_less_than_a_containers_limit(container: Container) -> None:
    container({"memory.max": "1048576\n"})
    assert machine.total_memory_bytes() == 1048576


@pytest.mark.parametrize("files", [{}, {"memory.max": "max\n"}], ids=["no-container", "no-limit"])
def test_memory_without_a_limit_is_all_there_is(container: Container, files: dict[str, str]) -> None:
    container(files)
    assert machine.total_memory_bytes() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_memory_that_cannot_be_told_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert machine.total_memory_bytes() is None


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path))
    assert machine.cache_directory() == tmp_path


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "/home/user/.cache/rubricrm"),
        ("linux", {"RUBRICRM_CACHE": ""}, "/home/user/.cache/rubricrm"),
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache/rubricrm"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/user/.cache/rubricrm"),
        ("darwin", {"XDG_CACHE_HOME": "/cache"}, "/home/user/Library/Caches/rubricrm"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/rubricrm/cache"),
        ("win32", {}, "/home/user/AppData/Local/rubricrm/cache"),
    ],
    ids=["linux", "empty", "xdg", "xdg-empty", "darwin", "windows", "windows-bare"],
)
def test_the_cache_is_the_platforms(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("RUBRICRM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.setattr(sys, "platform", platform)
    assert machine.cache_directory() == Path(expected)


def test_without_a_home_the_cache_is_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RUBRICRM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(machine.Path, "home", no_home)
    assert machine.cache_directory() == Path(tempfile.gettempdir()) / "rubricrm"
