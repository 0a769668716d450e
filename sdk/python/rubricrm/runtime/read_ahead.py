"""Reading a mapped file ahead of its first use, while something else is done.

Weights that are used in place are read when a run first touches them. Where they come from a disk, a thread has the
system read the whole file before. Where the system still holds them there is nothing to gain.

The runtime maps each tensor by itself. A system that keeps files in pages of 2 MB (seen: ext4 of Linux 6.18) does so
where one mapping of the whole file is read, and hardly where it is read tensor by tensor. Reads are 7 % faster then.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rubricrm.runtime.path_text import path_bytes

_MAPPINGS = Path("/proc/self/maps")
_POPULATE_READ = 22  # MADV_POPULATE_READ of madvise(2), since Linux 5.14
_HUGE_PAGES = 14  # MADV_HUGEPAGE
_PROT_READ = _MAP_SHARED = 1
_NUM_SAMPLES = 64


@contextmanager
def reading_ahead(path: Path | None) -> Iterator[None]:
    """Read what this process has mapped of a file, in a thread, while the block runs.

    The block never waits for it. The thread begins nothing after the block; the call that it is in then runs to its
    end. On systems that cannot do this nothing is read ahead. Memory: none, the pages are the file's.

    Args:
        path: The file; None: there is nothing to read. Nor is there of a file that is in the system's memory.
    """
    if path is None or not sys.platform.startswith("linux") or _is_cached(path):
        yield
        return
    ended = threading.Event()
    threading.Thread(target=_read, args=(path, ended), name="rubricrm-read-ahead", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _is_cached(path: Path) -> bool:
    """Whether the system holds a file in its memory, as far as a few bytes of it tell (0.1 ms)."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            places = (size * number // _NUM_SAMPLES for number in range(_NUM_SAMPLES))
            return all(os.preadv(file.fileno(), [bytearray(1)], place, os.RWF_NOWAIT) for place in places)
    except OSError:  # it would have to be read from the disk, or the file system cannot tell
        return False


def _read(path: Path, ended: threading.Event) -> None:
    import ctypes

    libc = ctypes.CDLL(None)
    ranges = mapped_ranges(path)
    if ranges and not ended.is_set():
        _read_whole(libc, path)
    for start, end in ranges:
        # One call for many pages: each needs Python's lock to begin, which the opening of a tokenizer holds for long.
        if ended.is_set() or libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _POPULATE_READ) != 0:
            return


def _read_whole(libc: Any, path: Path) -> None:
    """Bring a file into memory through a mapping of its own, in large pages where the system has them."""
    import ctypes

    # Not by Python's mmap, whose madvise holds Python's lock while it reads.
    libc.mmap.restype = ctypes.c_void_p
    with path.open("rb") as file:
        size = ctypes.c_size_t(os.fstat(file.fileno()).st_size)
        address = libc.mmap(None, size, _PROT_READ, _MAP_SHARED, file.fileno(), ctypes.c_long(0))
    if address == ctypes.c_void_p(-1).value:
        return
    whole = ctypes.c_void_p(address)
    libc.madvise(whole, size, _HUGE_PAGES)
    libc.madvise(whole, size, _POPULATE_READ)
    libc.munmap(whole, size)


def mapped_ranges(path: Path) -> list[tuple[int, int]]:
    """Return the addresses at which this process has mapped a file; neighbors are joined."""
    # As the system spells it, which escapes line breaks alone.
    name = path_bytes(os.path.realpath(path)).replace(b"\n", rb"\012")
    ranges: list[tuple[int, int]] = []
    for line in _MAPPINGS.read_bytes().split(b"\n"):
        words = line.split(maxsplit=5)
        if len(words) < 6 or words[5] != name:
            continue
        start, end = (int(address, 16) for address in words[0].split(b"-"))
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges
