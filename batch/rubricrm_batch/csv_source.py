"""Rows of a CSV file with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa

from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.source import MALFORMED, NOT_UTF8, Fault, SourceBatch, in_batches
from rubricrm_batch.text_lines import MOST_BYTES, text_file


class CsvSource:
    """The rows of one file. Every column is text, exactly as it stands: 007 stays 007.

    Args:
        path: The file; .gz, .bz2, .zst and .lz4 are decompressed.
        delimiter: Between the fields.

    Raises:
        InputInvalid: It cannot be read, has no header, or the header names a column twice.
    """

    def __init__(self, path: Path, delimiter: str = ",") -> None:
        self.files = (path,)
        self._delimiter = delimiter
        header = next(self._rows(), None)
        if header is None:
            raise InputInvalid(f"{path}: is empty, expected a header and rows.")
        if not_text := [name for name in header if not _is_text(name)]:
            raise InputInvalid(f"{path}: the header's {not_text[0]!a} is no UTF-8. Convert the file.")
        if twice := sorted({name for name in header if header.count(name) > 1}):
            raise InputInvalid(f"{path}: the header names {twice[0]!r} twice. Rename one of the columns.")
        self.schema = pa.schema([(name, pa.string()) for name in header])

    def batches(self) -> Iterator[SourceBatch]:
        """Yield all rows; blank lines are no rows.

        Raises:
            InputInvalid: A quote is never closed, so that no row after it can be told from the others.
        """
        rows = enumerate(islice(self._rows(), 1, None), 1)
        for part in in_batches(((number, row), sum(map(len, row))) for number, row in rows):
            faults = {place: fault for place, (_, row) in enumerate(part) if (fault := self._fault(row))}
            empty = [None] * len(self.schema)
            read = [empty if place in faults else row for place, (_, row) in enumerate(part)]
            columns = [pa.array(column, pa.string()) for column in zip(*read, strict=True)]
            batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
            yield SourceBatch(self.files[0].name, [number for number, _ in part], batch, faults)

    def _rows(self) -> Iterator[list[str]]:
        path = self.files[0]
        csv.field_size_limit(MOST_BYTES)
        with text_file(path) as file:
            text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
            reader = csv.reader(text, delimiter=self._delimiter, strict=True)
            try:
                yield from filter(None, reader)
            except csv.Error as error:
                raise InputInvalid(
                    f"{path}: line {reader.line_num} is no CSV ({error}). A quote that is never closed, or a delimiter "
                    "after a closing quote that is missing, hides where the rows after it begin. Mend that line."
                ) from error

    def _fault(self, row: list[str]) -> Fault | None:
        if not all(map(_is_text, row)):
            return Fault(NOT_UTF8, "the row holds bytes that are no UTF-8. Convert it.", self._line(row))
        if len(row) != len(self.schema):
            what = f"the row has {len(row)} fields, expected the {len(self.schema)} of the header."
            return Fault(MALFORMED, what, self._line(row))
        return None

    def _line(self, row: list[str]) -> str:
        line = io.StringIO()
        csv.writer(line, delimiter=self._delimiter, lineterminator="").writerow(row)
        return line.getvalue().encode(errors="surrogateescape").decode(errors="backslashreplace")


def _is_text(field: str) -> bool:
    try:
        field.encode()
    except UnicodeEncodeError:
        return False
    return True
