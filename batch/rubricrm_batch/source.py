"""The input of a batch: rows of files, as they stand, with what is wrong with each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa

# What is in memory at a time: so many rows, or so many bytes of text if that is less.
BATCH_ROWS = 1000
_BATCH_BYTES = 32 << 20
# A row's own faults. Its model's and its server's are the SDK's codes.
MALFORMED = "ROW_MALFORMED"
NOT_UTF8 = "ROW_NOT_UTF8"
MISSING = "REQUEST_MISSING"
INVALID = "REQUEST_INVALID"
T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    r"""Why a row cannot be answered.

    Attributes:
        code: One of this module's codes.
        message: What is wrong, and what was expected.
        line: The row as it stands, where it has no columns; bytes that are no UTF-8 as \xff.
    """

    code: str
    message: str
    line: str = ""


@dataclass(frozen=True)
class SourceBatch:
    """Consecutive rows of one file.

    Attributes:
        file: Its name, as ids are made of it.
        numbers: The place of each row in the file, from 1: a line's number, or a row's.
        columns: The rows; null where a row could not be read.
        faults: What is wrong, by the place in this batch.
    """

    file: str
    numbers: Sequence[int]
    columns: pa.RecordBatch
    faults: Mapping[int, Fault] = field(default_factory=dict)


class Source(Protocol):
    """An input that can be read from its beginning, any number of times, in bounded memory."""

    @property
    def files(self) -> Sequence[Path]:
        """Return the files that the rows come from, for their hash."""

    @property
    def schema(self) -> pa.Schema:
        """Return the columns."""

    def batches(self) -> Iterator[SourceBatch]:
        """Yield all rows. Raises InputInvalid where a file is damaged."""


def in_batches(rows: Iterator[tuple[T, int]]) -> Iterator[list[T]]:
    """Yield rows together, at most 1,000 of them or what the memory takes.

    Args:
        rows: Pairs of a row and its bytes.
    """
    batch: list[T] = []
    num_bytes = 0
    for row, size in rows:
        batch.append(row)
        num_bytes += size
        if len(batch) == BATCH_ROWS or num_bytes >= _BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
