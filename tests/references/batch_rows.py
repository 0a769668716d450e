"""Rows of batches, written and read by tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

Rows = list[dict[str, Any]]
StageRows = Callable[..., Path]


def read(directory: Path) -> Rows:
    """The rows of a directory of Parquet files."""
    rows: Rows = pa.concat_tables(parquet.read_table(path) for path in sorted(directory.glob("*.parquet"))).to_pylist()
    return rows


def write_lines(path: Path, *lines: dict[str, Any] | bytes) -> Path:
    """Write a JSONL file of objects, and of lines as they are."""
    path.write_bytes(
        b"".join((json.dumps(line).encode() if isinstance(line, dict) else line) + b"\n" for line in lines)
    )
    return path
