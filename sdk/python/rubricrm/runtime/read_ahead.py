"""Reading a mapped file ahead of its first use, while something else is done.

Weights that are used in place are read when a run first touches them: from the disk, or, where the system still holds
the file, by a page fault for every few pages. A thread has the system do both at once for the whole file.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rubricrm.runtime.path_text import path_bytes

_MAPPINGS = Path("/proc/self/maps")
_POPULATE_READ = 22  # MADV_POPULATE_READ of madvise(2), since Linux 5.14


@contextmanager
def reading_ahead(path: Path | None) -> Iterator[None]:
    """Read what this process has mapped of a file, in a thread, while the block runs.

    The block never waits for it. The thread begins nothing after the block; the call that it is in then runs to its
    end. On systems that cannot do this nothing is read ahead. Memory: none, the pages are the file's.

    Args:
        path: The file; None: there is nothing to read.
    """
    if path is None or not sys.platform.startswith("linux"):
        yield
        return
    ended = threading.Event()
    threading.Thread(target=_read, args=(path, ended), name="rubricrm-read-ahead", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _read(path: Path, ended: threading.Event) -> None:
    import ctypes

    madvise = ctypes.CDLL(None).madvise
    for start, end in mapped_ranges(path):
        # One call for many pages: each needs Python's lock to begin, which the opening of a tokenizer holds for long.
        if ended.is_set() or madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _POPULATE_READ) != 0:
            return


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
