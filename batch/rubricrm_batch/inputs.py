"""What INPUT names: a file by its ending, a directory of Parquet files, or a data set of the hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rubricrm_batch.csv_source import CsvSource
from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.jsonl_source import JsonlSource
from rubricrm_batch.parquet_source import ParquetSource
from rubricrm_batch.source import Source

HUB = "hub:"
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
_FORMS = (
    "a file .jsonl, .csv, .tsv (each may be compressed) or .parquet, a directory of Parquet files, or hub:OWNER/NAME"
)


def open_source(name: str, *, request: str, split: str) -> Source:
    """Return the source that a name says.

    Args:
        name: A path, or hub:OWNER/NAME (a local directory after hub: is one that the package datasets can load).
        request: The column of requests.
        split: Of a data set of the hub.

    Raises:
        InputInvalid: It is not there, is in no form that is read, or cannot be read.
        DependencyMissing: A data set of the hub is named, and datasets is not installed.
    """
    if name.startswith(HUB):
        from rubricrm_batch.hub_source import HubSource

        return HubSource(name.removeprefix(HUB), split)
    path = Path(name)
    if not path.exists():
        raise InputInvalid(f"{path}: does not exist, expected {_FORMS}.")
    if path.is_dir():
        return ParquetSource(path)
    return _file_source(path, request)


def _file_source(path: Path, request: str) -> Source:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
    match suffixes[-1] if suffixes else "":
        case ".jsonl" | ".ndjson":
            return JsonlSource(path, request)
        case ".csv":
            return CsvSource(path)
        case ".tsv":
            return CsvSource(path, "\t")
        case ".parquet" | ".pq":
            return ParquetSource(path)
    raise InputInvalid(f"{path}: what it holds cannot be told from its name, expected {_FORMS}.")


def fingerprint(source: Source) -> str:
    """Return the hash of all bytes of an input, and of its files' names. Costs one reading of them.

    Raises:
        InputInvalid: A file cannot be read.
    """
    total = hashlib.sha256()
    for path in source.files:
        try:
            with path.open("rb") as file:
                total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise InputInvalid(f"{path}: cannot be read ({error}).") from error
    return total.hexdigest()
