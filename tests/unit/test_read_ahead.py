"""Reading ahead: what a process has mapped is in its memory before it is used, and nobody waits for it."""

import ctypes
import mmap
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from own_kernels import needs_kernels
from rubricrm import RubricModel
from rubricrm.runtime import read_ahead as module
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.read_ahead import mapped_ranges, reading_ahead
from rubricrm.runtime.session import GraphVariant, Session
from rubricrm.runtime.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads ahead on Linux alone")

SIZE = 1 << 20
PAGE = mmap.PAGESIZE


def can_populate() -> bool:
    memory = mmap.mmap(-1, PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    status: int = ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), module._POPULATE_READ)
    return status == 0


needs_populate = pytest.mark.skipif(not can_populate(), reason="MADV_POPULATE_READ needs Linux 5.14")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(SIZE))
    return path


@contextmanager
def mapped(path: Path, offset: int = 0, length: int = 0) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), length, prot=mmap.PROT_READ, offset=offset) as data:
        yield data


def resident_bytes(path: Path) -> int:
    """How much of a mapped file is in this process's page tables."""
    total, is_in = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_in = line.endswith(f" {path}")
        elif is_in and line.startswith("Rss:"):
            total += int(line.split()[1]) << 10
    return total


def until(condition: Callable[[], object], expected: object) -> None:
    """Wait for what a thread does."""
    end = time.monotonic() + 20
    while condition() != expected and time.monotonic() < end:
        time.sleep(0.005)
    assert condition() == expected


# ---- what is mapped ----


def test_a_file_that_is_not_mapped_has_no_ranges(file: Path, tmp_path: Path) -> None:
    assert mapped_ranges(file) == []
    assert mapped_ranges(tmp_path / "none") == []


def test_the_ranges_are_those_of_the_file(file: Path) -> None:
    with mapped(file):
        ((start, end),) = mapped_ranges(file)
        assert end - start == SIZE
        assert ctypes.string_at(start, SIZE) == file.read_bytes()
    assert mapped_ranges(file) == []


def test_neighbors_are_joined(file: Path) -> None:
    with mapped(file, 0, SIZE // 2), mapped(file, SIZE // 2, SIZE // 2), mapped(file, PAGE, PAGE):
        ranges = mapped_ranges(file)
    assert sum(end - start for start, end in ranges) == SIZE + PAGE
    assert all(end < start for (_, end), (start, _) in pairwise(ranges))


@pytest.mark.parametrize(
    "name", [b"two words", b"line\nbreak", b"carriage\rreturn", b"bad\xff", "größe".encode(), b"end ", b"x\\012y"]
)
def test_a_file_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(bytes(PAGE))
    link = tmp_path / "link"
    link.symlink_to(path)
    with mapped(path):
        assert len(mapped_ranges(path)) == len(mapped_ranges(link)) == 1


# ---- what the system holds ----


def test_a_file_that_was_just_written_is_held(file: Path) -> None:
    assert module._is_cached(file)


def test_a_file_that_is_on_the_disk_alone_is_not_held(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with mapped(file) as data:
        if module._is_cached(file):
            pytest.skip("this file system lies in memory, or keeps what it was told to drop")
        assert data[SIZE // 2 : SIZE // 2 + 1]


def test_a_file_that_is_not_there_is_not_held(tmp_path: Path) -> None:
    assert not module._is_cached(tmp_path / "none")


def test_what_the_system_holds_is_not_read_ahead(file: Path) -> None:
    before = threading.active_count()
    with reading_ahead(file):
        assert threading.active_count() == before


# ---- reading ----


@pytest.fixture
def nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_cached", lambda _: False)


@needs_populate
@pytest.mark.usefixtures("nothing_is_held")
def test_what_is_mapped_is_read(file: Path) -> None:
    with mapped(file):
        assert resident_bytes(file) == 0
        with reading_ahead(file):
            until(lambda: resident_bytes(file), SIZE)


def test_nothing_is_read_of_no_file() -> None:
    before = threading.active_count()
    with reading_ahead(None):
        assert threading.active_count() == before


@pytest.mark.usefixtures("nothing_is_held")
def test_nobody_waits_for_it_and_it_ends_with_the_block(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, told = threading.Event(), threading.Event()

    def read(path: Path, ended: threading.Event) -> None:
        assert path == file
        begun.set()
        if ended.wait(20):
            told.set()

    monkeypatch.setattr(module, "_read", read)
    with reading_ahead(file):
        assert begun.wait(20)
        assert not told.is_set()
    assert told.wait(20)


@pytest.mark.usefixtures("nothing_is_held")
def test_a_file_that_was_truncated_kills_nobody(file: Path) -> None:
    with mapped(file):
        os.truncate(file, PAGE)
        with reading_ahead(file):
            until(lambda: "rubricrm-read-ahead" in [thread.name for thread in threading.enumerate()], False)


# ---- a model ----


@needs_kernels
@needs_populate
@pytest.mark.usefixtures("nothing_is_held")
def test_the_weights_of_a_model_are_read_while_its_tokenizer_is_opened(
    packed_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = packed_bundle / "model.step.onnx.data"
    size = data.stat().st_size // PAGE * PAGE
    open_tokenizer = Tokenizer.from_file

    def open_slowly(path: Path) -> Tokenizer:
        until(lambda: resident_bytes(data) >= size, True)
        return open_tokenizer(path)

    monkeypatch.setattr(Tokenizer, "from_file", open_slowly)
    RubricModel.open(packed_bundle, threads=1).close()


@needs_kernels
def test_only_weights_that_are_used_in_place_are_read(packed_bundle: Path, tiny_bundle: Path) -> None:
    bundle = Bundle.open(packed_bundle)
    variant = GraphVariant("model.onnx", bundle.file("model.onnx").read_bytes())
    for session, expected in (
        (Session(bundle, threads=1), packed_bundle / "model.step.onnx.data"),
        (Session(bundle, threads=1, variant=variant), None),
        (Session(Bundle.open(tiny_bundle), threads=1), None),
    ):
        assert session.mapped_file == expected
        session.close()
