"""Many ids on the disk, in parts by their hash, so that those that are equal are in one part."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

_NUM_PARTS = 256


class IdPartitions:
    """Ids, written in any order and read part by part: two such sets are compared part by part.

    Memory: one of 256 parts at a time, some 250 bytes per id of it; 100 MB at 100 million ids.
    """

    def __init__(self, directory: Path, ids: Iterable[str]) -> None:
        """Write all ids.

        Args:
            directory: A new directory for the parts.
            ids: Any texts.
        """
        directory.mkdir()
        self._paths = [directory / f"{number:02x}.jsonl" for number in range(_NUM_PARTS)]
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("w", encoding="utf-8")) for path in self._paths]
            for row in ids:
                files[crc32(row.encode()) % _NUM_PARTS].write(json.dumps(row) + "\n")

    def parts(self) -> Iterator[list[str]]:
        """Yield the ids of one part after the other."""
        for path in self._paths:
            with path.open(encoding="utf-8") as file:
                yield list(map(json.loads, file))
