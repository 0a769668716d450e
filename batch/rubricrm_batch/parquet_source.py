"""Rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.source import BATCH_ROWS, SourceBatch


class ParquetSource:
    """The rows of one file, or of all .parquet files of a directory, by their names; columns as they are.

    Args:
        path: A file, or a directory. Files whose names begin with . or _ are left out, as other readers do.

    Raises:
        InputInvalid: There is no file, one cannot be read, or they have different columns.
    """

    def __init__(self, path: Path) -> None:
        self._root = path if path.is_dir() else path.parent
        self.files = tuple(_files(path)) if path.is_dir() else (path,)
        if not self.files:
            raise InputInvalid(f"{path}: no file in it is called *.parquet. Give a directory of Parquet files.")
        self.schema = _schema(self.files[0])
        for file in self.files[1:]:
            if (schema := _schema(file)) != self.schema:
                raise InputInvalid(
                    f"{file}: has other columns than {self.files[0]}: {_text(schema)}; expected {_text(self.schema)}."
                )

    def batches(self) -> Iterator[SourceBatch]:
        """Yield all rows."""
        for path in self.files:
            start = 1
            with _readable(path), parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH_ROWS):
                    numbers = range(start, start + batch.num_rows)
                    start += batch.num_rows
                    yield SourceBatch(path.relative_to(self._root).as_posix(), numbers, batch)


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*.parquet")):
        if not path.relative_to(directory).as_posix().startswith((".", "_")) and path.name[0] not in "._":
            yield path


def _schema(path: Path) -> pa.Schema:
    with _readable(path), parquet.ParquetFile(path) as file:
        return file.schema_arrow.remove_metadata()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise InputInvalid(f"{path}: cannot be read as Parquet ({error}).") from error


def _text(schema: pa.Schema) -> str:
    return ", ".join(f"{entry.name} {entry.type}" for entry in schema)
