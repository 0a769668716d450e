"""Limits of control groups, on trees of files in the place of /proc and /sys."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.runtime.control_group import cpu_quota, memory_limit

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
V1 = (
    "31 23 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "32 31 0:28 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 master:3 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:29 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "34 31 0:30 {root} /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
)
UNLIMITED_1 = "9223372036854771712\n"


def tree(root: Path, mountinfo: str | bytes, groups: str | bytes, files: Mapping[str, str | bytes]) -> Path:
    """Write what a process sees."""
    for name, contents in {"proc/self/mountinfo": mountinfo, "proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    return root


# ---- version 2 ----


def test_a_service_is_limited_by_its_slice(tmp_path: Path) -> None:
    """The tightest limit holds, whichever level it is on; the root of the hierarchy has none of these files."""
    root = tree(
        tmp_path,
        V2,
        "0::/system.slice/rubric.slice/rubric@1.service\n",
        {
            "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
            "sys/fs/cgroup/system.slice/memory.max": "2000000000\n",
            "sys/fs/cgroup/system.slice/rubric.slice/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/system.slice/rubric.slice/memory.max": "536870912\n",
            "sys/fs/cgroup/system.slice/rubric.slice/rubric@1.service/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/system.slice/rubric.slice/rubric@1.service/memory.max": "max\n",
        },
    )
    assert cpu_quota(root) == 1
    assert memory_limit(root) == 536870912


def test_a_container_with_a_namespace_of_its_own_is_limited_at_the_mount(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "150000 100000\n", "sys/fs/cgroup/memory.max": "1000\n"}
    root = tree(tmp_path, V2, "0::/\n", files)
    assert (cpu_quota(root), memory_limit(root)) == (1.5, 1000)


def test_a_slowing_limit_of_memory_counts(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/a/memory.max": "2000\n", "sys/fs/cgroup/a/memory.high": "1500\n"}
    assert memory_limit(tree(tmp_path, V2, "0::/a\n", files)) == 1500


def test_a_group_that_the_container_does_not_see_is_the_mount(tmp_path: Path) -> None:
    for number, group in enumerate(("/../../other", "/docker/0123")):
        mounts = V2 if number == 0 else V2.replace(" / /sys", " /kubepods/pod1 /sys")
        files = {"sys/fs/cgroup/cpu.max": "300000 100000\n", "sys/fs/other/cpu.max": "1 100000\n"}
        assert cpu_quota(tree(tmp_path / str(number), mounts, f"0::{group}\n", files)) == 3


def test_another_groups_bind_mount_is_not_read(tmp_path: Path) -> None:
    mounts = V2 + "40 23 0:26 /other /mnt/other rw - cgroup2 cgroup2 rw\n"
    files = {"mnt/other/cpu.max": "100000 100000\n", "sys/fs/cgroup/mine/cpu.max": "400000 100000\n"}
    assert cpu_quota(tree(tmp_path, mounts, "0::/mine\n", files)) == 4


def test_the_tree_is_where_it_is_mounted(tmp_path: Path) -> None:
    mounts = "30 23 0:26 / /a\\040place/with\\134 rw - cgroup2 none rw\n"
    root = tree(tmp_path, mounts, "0::/my group\n", {"a place/with\\/my group/cpu.max": "200000 100000\n"})
    assert cpu_quota(root) == 2


def test_a_groups_name_may_be_no_utf8(tmp_path: Path) -> None:
    root = tree(tmp_path, V2, b"0::/\xff\xfe:x\n", {})
    group = Path(str(root) + "/sys/fs/cgroup/" + b"\xff\xfe:x".decode(errors="surrogateescape"))
    group.mkdir(parents=True)
    (group / "memory.max").write_text("77\n")
    assert memory_limit(root) == 77


# ---- version 1, and both ----


@pytest.mark.parametrize(
    ("seen", "group"),
    [("/", "/docker/0123"), ("/docker/0123", "/docker/0123"), ("/docker/0123", "/docker/0123/nested")],
    ids=["host", "container", "nested"],
)
def test_version_1_has_a_tree_per_controller(tmp_path: Path, seen: str, group: str) -> None:
    below = group.removeprefix(seen).strip("/")
    cpu, memory = (f"sys/fs/cgroup/{name}/{below}/" for name in ("cpu,cpuacct", "memory"))
    files = {
        cpu + "cpu.cfs_quota_us": "300000\n",
        cpu + "cpu.cfs_period_us": "100000\n",
        memory + "memory.limit_in_bytes": "4096\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_1 if below else "4096\n",
    }
    groups = f"12:memory:{group}\n4:cpu,cpuacct:{group}\n1:name=systemd:{group}\n0::/unseen\n"
    root = tree(tmp_path, V1.format(root=seen), groups, files)
    assert (cpu_quota(root), memory_limit(root)) == (3, 4096)


def test_a_version_1_group_without_a_quota(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    assert cpu_quota(tree(tmp_path, V1.format(root="/"), "4:cpu,cpuacct:/a\n", files)) == 2.5


def test_where_both_are_mounted_the_tighter_one_holds(tmp_path: Path) -> None:
    mounts = V1.format(root="/") + V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    files = {
        "sys/fs/cgroup/unified/a/memory.max": "900\n",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "800\n",
        "sys/fs/cgroup/unified/a/cpu.max": "100000 100000\n",
    }
    root = tree(tmp_path, mounts, "12:memory:/a\n4:cpu,cpuacct:/a\n0::/a\n", files)
    assert (cpu_quota(root), memory_limit(root)) == (1, 800)


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpu.max": "200000 100000", "sys/fs/cgroup/memory.max": "99"},
        {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "99",
        },
    ],
    ids=["version-2", "version-1"],
)
def test_without_proc_the_usual_places_are_read(tmp_path: Path, files: dict[str, str]) -> None:
    root = tree(tmp_path, "", "", files)
    (root / "proc/self/mountinfo").unlink()
    (root / "proc/self/cgroup").unlink()
    assert (cpu_quota(root), memory_limit(root)) == (2, 99)


# ---- what is malformed ----

RUBBISH = [
    "",
    "\n",
    "rubbish",
    "a b",
    "100000",
    "100000 0",
    "0 100000",
    "-1 100000",
    "1_000 1",
    "\u0661 \u0661",
    "9" * 5000 + " 1",
    b"\xff\xfe\x00 1",
    "1e5 1e5",
]


@pytest.mark.parametrize("contents", RUBBISH, ids=lambda value: repr(value)[:20])
def test_a_malformed_file_limits_nothing(tmp_path: Path, contents: str | bytes) -> None:
    files = {"sys/fs/cgroup/a/cpu.max": contents, "sys/fs/cgroup/cpu.max": "700000 100000\n"}
    assert cpu_quota(tree(tmp_path, V2, "0::/a\n", files)) == 7
    files = {"sys/fs/cgroup/a/memory.max": b"-" if contents == "100000" else contents}
    assert memory_limit(tree(tmp_path, V2, "0::/a\n", files)) is None


def test_a_directory_in_the_place_of_a_file_limits_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path, V2, "0::/\n", {"sys/fs/cgroup/cpu.max/x": "", "sys/fs/cgroup/memory.max/x": ""})
    assert (cpu_quota(root), memory_limit(root)) == (None, None)


LINES = st.one_of(
    st.sampled_from([*V2.splitlines(), *V1.format(root="/").splitlines(), "0::/a/b", "4:cpu,cpuacct:/a", "::", " - "]),
    st.text(st.sampled_from("0:/a cpu,-\\40\u0661"), max_size=40),
    st.text(max_size=40),
)
FILES = st.lists(LINES, max_size=6).map("\n".join)
BYTES = st.one_of(FILES.map(lambda text: text.encode(errors="replace")), st.binary(max_size=60))


@given(mountinfo=BYTES, groups=BYTES, quota=st.one_of(st.binary(max_size=30), st.text(max_size=20).map(str.encode)))
def test_no_file_makes_it_raise(mountinfo: bytes, groups: bytes, quota: bytes) -> None:
    with TemporaryDirectory() as name:
        files = {f"sys/fs/cgroup/{place}": quota for place in ("cpu.max", "memory.max", "memory.high")}
        root = tree(Path(name), mountinfo, groups, files)
        cores, memory = cpu_quota(root), memory_limit(root)
        assert cores is None or cores > 0
        assert memory is None or memory > 0


LIMIT = st.one_of(st.none(), st.integers(1, 10**12))


@given(limits=st.lists(st.tuples(LIMIT, LIMIT), min_size=1, max_size=5), version=st.sampled_from([1, 2]))
def test_the_tightest_of_all_levels_holds(limits: list[tuple[int | None, int | None]], version: int) -> None:
    files: dict[str, str] = {}
    group = ""
    for level, (quota, memory) in enumerate(limits):
        group += f"/level{level}"
        if version == 2:
            files[f"sys/fs/cgroup{group}/cpu.max"] = f"{quota or 'max'} 100000\n"
            files[f"sys/fs/cgroup{group}/memory.max"] = f"{memory or 'max'}\n"
        else:
            files[f"sys/fs/cgroup/cpu,cpuacct{group}/cpu.cfs_quota_us"] = f"{quota or -1}\n"
            files[f"sys/fs/cgroup/cpu,cpuacct{group}/cpu.cfs_period_us"] = "100000\n"
            files[f"sys/fs/cgroup/memory{group}/memory.limit_in_bytes"] = f"{memory}\n" if memory else UNLIMITED_1
    groups = f"0::{group}\n" if version == 2 else f"4:cpu,cpuacct:{group}\n5:memory:{group}\n"
    quotas, memories = ([pair[half] for pair in limits if pair[half]] for half in (0, 1))
    with TemporaryDirectory() as name:
        root = tree(Path(name), V2 if version == 2 else V1.format(root="/"), groups, files)
        assert cpu_quota(root) == (min(quota for quota in quotas if quota) / 100000 if quotas else None)
        found = memory_limit(root)
        assert (None if found == int(UNLIMITED_1) else found) == min((size for size in memories if size), default=None)
