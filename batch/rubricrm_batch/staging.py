"""The input as Parquet with an id for every row: what the job reads, however often it is resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from rubricrm.errors import RubricrmError
from rubricrm.runtime.prompt import check_text
from rubricrm.runtime.published_directory import scratch_directory, whole_directory

from rubricrm_batch.columns import ERROR_CODE, ERROR_MESSAGE, ID, INPUT_LINE, staged_schema
from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.id_partitions import IdPartitions
from rubricrm_batch.parquet_rows import RowWriter, rows_of
from rubricrm_batch.source import INVALID, MISSING, NOT_UTF8, Fault, Source, SourceBatch

MARKER = "_staged"
_SHOWN = 5


def stage(source: Source, directory: Path, *, request: str, id_column: str | None) -> None:
    """Write all rows of an input, each with its id and what is wrong with it.

    The directory appears whole or not at all. Memory: two batches of 1,000 rows, and one part of 256 of the ids.

    Args:
        source: The input.
        directory: To write.
        request: The column that holds the requests.
        id_column: The column that holds the ids, text or integers; None: FILE:NUMBER of each row.

    Raises:
        InputInvalid: There is no such column, an id is missing or repeats, or there are no rows.
        WriteFailed: The disk is full or the directory cannot be written.
    """
    _check_columns(source, request, id_column)
    schema, _ = staged_schema(source.schema)
    with whole_directory(directory, force=False, marker=MARKER) as writing:
        lacking = _Lacking()
        with RowWriter(writing, schema) as rows:
            for batch in source.batches():
                rows.write(_staged(batch, schema, request, id_column, lacking))
        _check_rows(source, rows.num_rows, lacking, id_column)
        with scratch_directory(directory, "ids") as scratch:
            _check_unique(source, writing, scratch)
        (writing / MARKER).touch()


def staged_name(columns: pa.Schema, name: str) -> str:
    """Return the name that a column of the input has in staged rows."""
    return staged_schema(columns)[1].get(name, name)


def _check_columns(source: Source, request: str, id_column: str | None) -> None:
    if not source.schema.names:
        raise InputInvalid(f"{source.files[0]}: holds no row that can be read. Nothing was begun.")
    columns = ", ".join(source.schema.names)
    for name, option in ((request, "--column"), (id_column, "--id")):
        if name is not None and name not in source.schema.names:
            raise InputInvalid(f"{source.files[0]}: no column {name!r}; there are {columns}. Name one with {option}.")
    if not is_text(source.schema.field(request).type):
        kind = source.schema.field(request).type
        raise InputInvalid(f"{source.files[0]}: the column {request!r} holds {kind}, expected text. Name another.")
    if id_column is not None:
        kind = source.schema.field(id_column).type
        if not is_text(kind) and not pa.types.is_integer(kind):
            raise InputInvalid(f"{source.files[0]}: ids of {id_column!r} are {kind}, expected text or integers.")
    new = staged_schema(source.schema)[0].names
    if clash := sorted({name for name in new if new.count(name) > 1}):
        raise InputInvalid(f"{source.files[0]}: {clash[0]!r} would be the name of two columns. Rename one.")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of a type holds texts."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_kind(value) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


@dataclass
class _Lacking:
    """Rows without an id: how many, and the first of them."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, row: str) -> None:
        self.count += 1
        if self.count <= _SHOWN:
            self.shown.append(row)


def _staged(
    batch: SourceBatch, schema: pa.Schema, request: str, id_column: str | None, lacking: _Lacking
) -> pa.RecordBatch:
    faults = dict(batch.faults)
    for place, text in enumerate(_texts(batch.columns.column(request))):
        if place not in faults and (fault := _request_fault(text, request)):
            faults[place] = fault
    names = [f"{batch.file}:{number}" for number in batch.numbers]
    ids = names
    if id_column is not None:
        given = _texts(batch.columns.column(id_column).cast(pa.string()))
        unread = {place for place, fault in batch.faults.items() if fault.line}
        for place, text in enumerate(given):
            if not isinstance(text, str) and place not in unread:
                lacking.add(names[place])
        ids = [text if isinstance(text, str) else name for text, name in zip(given, names, strict=True)]
    by_place = [faults.get(place) for place in range(len(names))]
    own = {
        ID: ids,
        ERROR_CODE: [fault.code if fault else "" for fault in by_place],
        ERROR_MESSAGE: [fault.message if fault else "" for fault in by_place],
        INPUT_LINE: [fault.line if fault else "" for fault in by_place],
    }
    columns = iter(batch.columns.columns)
    arrays = [pa.array(own[entry.name], pa.string()) if entry.name in own else next(columns) for entry in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _texts(column: pa.Array) -> list[str | bytes | None]:
    """Return texts; bytes where they are no UTF-8, which Parquet does not check."""
    kind = pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return [_text(value) for value in column.cast(kind).to_pylist()]


def _text(value: bytes | None) -> str | bytes | None:
    try:
        return value if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _request_fault(text: Any, name: str) -> Fault | None:
    if text is None:
        return Fault(MISSING, f"the column {name!r} is null or absent in this row.")
    if isinstance(text, bytes):
        line = text.decode(errors="backslashreplace")
        return Fault(NOT_UTF8, f"the column {name!r} holds bytes that are no UTF-8. Convert them.", line)
    try:
        check_text(text, name)
    except RubricrmError as error:
        return Fault(INVALID, str(error).partition(": ")[2])
    return None


def _check_rows(source: Source, num_rows: int, lacking: _Lacking, id_column: str | None) -> None:
    if not num_rows:
        raise InputInvalid(f"{source.files[0]}: has no rows. Nothing was begun.")
    if lacking.count:
        raise InputInvalid(
            f"{lacking.count} rows have no id in the column {id_column!r}: {', '.join(lacking.shown)}. Give each its "
            "own, or leave out --id: then ids are made of file and row."
        )


def _check_unique(source: Source, staged: Path, scratch: Path) -> None:
    """Compare ids part by part."""
    num_repeated = 0
    shown: list[str] = []
    for part in IdPartitions(scratch, staged_ids(staged)).parts():
        repeated = [row for row, count in Counter(part).items() if count > 1]
        num_repeated += len(repeated)
        shown = [*shown, *repeated][:_SHOWN]
    if num_repeated:
        places = _places(staged, shown)
        raise InputInvalid(
            f"{source.files[0]}: {num_repeated} ids repeat: {places}. Make each id unique, or leave out --id: then ids "
            "are made of file and row."
        )


def _places(staged: Path, ids: list[str]) -> str:
    """Return which rows of the input have these ids."""
    found: dict[str, list[str]] = {row: [] for row in ids}
    for number, row in enumerate(staged_ids(staged), 1):
        if row in found and len(found[row]) < _SHOWN:
            found[row].append(str(number))
    return "; ".join(f"{row!r} in rows {', '.join(places)}" for row, places in found.items())


def staged_ids(directory: Path) -> Iterator[str]:
    """Yield the id of every row."""
    for batch in rows_of(directory, [ID]):
        yield from batch.column(ID).to_pylist()
