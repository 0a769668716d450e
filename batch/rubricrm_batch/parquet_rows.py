"""Rows in the Parquet files of a directory, read and written in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pyarrow as pa
from pyarrow import parquet

_BATCH_ROWS = 1000
# One file is one task of the reader.
_FILE_ROWS = 50_000


class RowWriter:
    """Writes batches of rows into part-00000.parquet and its successors."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self.num_rows = 0
        self._directory = directory
        self._schema = schema
        self._file: parquet.ParquetWriter | None = None
        self._num_files = 0
        self._rows_in_file = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows. Raises OSError where the disk is full."""
        if self._file is None:
            path = self._directory / f"part-{self._num_files:05}.parquet"
            self._file = parquet.ParquetWriter(path, self._schema, compression="zstd")
            self._num_files += 1
        self._file.write_batch(batch)
        self.num_rows += batch.num_rows
        self._rows_in_file += batch.num_rows
        if self._rows_in_file >= _FILE_ROWS:
            self._end_file()

    def _end_file(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._rows_in_file = None, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_file()


def parquet_files(directory: Path) -> list[Path]:
    """Return the files that hold a directory's rows, by name."""
    return sorted(directory.glob("*.parquet"))


def rows_of(directory: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all files, 1,000 at a time."""
    for path in parquet_files(directory):
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(_BATCH_ROWS, columns=list(columns))
