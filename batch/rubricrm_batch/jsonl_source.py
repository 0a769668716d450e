"""Rows of a JSONL file: an object per line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.source import INVALID, MALFORMED, NOT_UTF8, Fault, SourceBatch, in_batches
from rubricrm_batch.text_lines import readable, text_lines

_MOST_COLUMNS = 1000
_JSON = "json"  # the kind of a column that no single type of Arrow holds

Record = dict[str, Any] | Fault


class JsonlSource:
    """The lines of one file. It is read twice: first for the columns, then for the rows.

    A column has the type that all its values share: bool, int64, float64 or string. Where they share none, and for
    arrays and objects, it holds each value's JSON text.

    Args:
        path: The file; .gz, .bz2, .zst and .lz4 are decompressed.
        request: The column of requests: its texts stay as they are, and a value of another kind is a fault.

    Raises:
        InputInvalid: It cannot be read, or has more than 1,000 columns.
    """

    def __init__(self, path: Path, request: str) -> None:
        self.files = (path,)
        self._request = request
        self._kinds = _kinds(path)
        self.schema = pa.schema([(name, _arrow_type(kinds)) for name, kinds in self._kinds.items()])

    def batches(self) -> Iterator[SourceBatch]:
        """Yield all rows; blank lines are no rows."""
        sized = (((number, record), size) for number, record, size in _records(self.files[0]))
        for part in in_batches(sized):
            faults = {place: fault for place, (_, record) in enumerate(part) if (fault := self._fault(record))}
            rows = [{} if isinstance(record, Fault) else record for _, record in part]
            columns = [pa.array(self._column(entry.name, rows), entry.type) for entry in self.schema]
            batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
            yield SourceBatch(self.files[0].name, [number for number, _ in part], batch, faults)

    def _column(self, name: str, rows: list[dict[str, Any]]) -> list[Any]:
        values = [row.get(name) for row in rows]
        if _common_kind(self._kinds[name]) != _JSON:
            return values
        keeps_texts = name == self._request
        return [
            value
            if value is None or (keeps_texts and isinstance(value, str))
            else json.dumps(value, ensure_ascii=False)
            for value in values
        ]

    def _fault(self, record: Record) -> Fault | None:
        if isinstance(record, Fault):
            return record
        value = record.get(self._request)
        if value is None or isinstance(value, str):
            return None
        return Fault(INVALID, f"the column {self._request!r} holds a {type(value).__name__}, expected text.")


def _records(path: Path) -> Iterator[tuple[int, Record, int]]:
    for number, line in text_lines(path):
        if isinstance(line, Fault):
            yield number, line, len(line.line)
        elif line.strip():
            yield number, _record(line), len(line)


def _record(line: bytes) -> Record:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return Fault(NOT_UTF8, f"byte {error.start} of the line is no UTF-8. Convert the row.", readable(line))
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
        if b"\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()  # may raise UnicodeEncodeError, a ValueError
    except (ValueError, RecursionError) as error:
        what = "holds a lone surrogate" if isinstance(error, UnicodeEncodeError) else f"is no JSON ({error})"
        code = NOT_UTF8 if isinstance(error, UnicodeEncodeError) else MALFORMED
        return Fault(code, f"the line {what}.", text.rstrip("\r\n"))
    if not isinstance(value, dict):
        return Fault(MALFORMED, f"the line is a JSON {type(value).__name__}, expected an object.", text.rstrip("\r\n"))
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that says a key twice: one of its values would be lost."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} appears twice")
    return found


def _kinds(path: Path) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for number, record, _ in _records(path):
        if isinstance(record, Fault):
            continue
        for name, value in record.items():
            if value is None:
                kinds.setdefault(name, set())
            else:
                kinds.setdefault(name, set()).add(_kind(value))
        if len(kinds) > _MOST_COLUMNS:
            raise InputInvalid(
                f"{path}: has more than {_MOST_COLUMNS} different keys up to line {number}, expected the same few in "
                "every line. Put what differs into an object of its own."
            )
    return kinds


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else _JSON
    if isinstance(value, float):
        return "float" if math.isfinite(value) else _JSON
    return "string" if isinstance(value, str) else _JSON


def _common_kind(kinds: set[str]) -> str:
    return kinds.copy().pop() if len(kinds) == 1 else _JSON if kinds else "string"


def _arrow_type(kinds: set[str]) -> pa.DataType:
    types = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
    return types.get(_common_kind(kinds), pa.string())
