"""From the blocks of attempts to the output: audited, then put in its place at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from pyarrow import compute, parquet
from rubricrm.runtime.published_directory import scratch_directory, whole_directory

from rubricrm_batch.audit import Audit, audit
from rubricrm_batch.columns import ERROR_CODE, ERROR_MESSAGE, INPUT_LINE, RETRYABLE
from rubricrm_batch.errors import JobIncomplete
from rubricrm_batch.job import Job
from rubricrm_batch.parquet_rows import RowWriter, parquet_files
from rubricrm_batch.runs import link_or_copy

# Beside the Parquet files, where readers of Parquet pass it over.
MARKER = "_job.json"


def attempts_of(rubrics: Path) -> int:
    """Return how many attempts an output holds."""
    if not rubrics.is_dir():
        return 0
    return int(json.loads((rubrics / MARKER).read_text("utf-8"))["attempts"])


def publish(job: Job, written: Path, number: int) -> Audit:
    """Put an attempt's rows into the output, in the place of rows that failed before.

    Files are linked, not copied; those that hold rows which were tried again are written again without them.

    Args:
        job: The job.
        written: The attempt's files.
        number: The attempt.

    Raises:
        JobIncomplete: A row is missing, repeated or foreign; the old output stays.
        WriteFailed: The disk is full; the old output stays.
    """
    with whole_directory(job.rubrics, force=True, marker=MARKER) as directory:
        for file in parquet_files(job.rubrics) if job.is_published else ():
            _keep(file, directory / file.name)
        for file in parquet_files(written):
            link_or_copy(file, directory / f"attempt-{number}-{file.name}")
        found = audited(job, directory)
        if not found.is_whole:
            raise JobIncomplete(f"{job.path}: {told(found)}. Nothing was put into {job.rubrics.name}.")
        (directory / MARKER).write_text(json.dumps({"attempts": number}) + "\n", "utf-8")
    return found


def audited(job: Job, written: Path) -> Audit:
    """Compare an output with the input."""
    with scratch_directory(job.rubrics, "ids") as scratch:
        return audit(job.staged, written, scratch)


def stage_failed(job: Job, directory: Path) -> int:
    """Stage all rows that failed and may succeed, as they were; return how many.

    Raises:
        WriteFailed: The disk is full.
    """
    schema = parquet.read_schema(parquet_files(job.staged)[0])
    with whole_directory(directory, force=False) as writing, RowWriter(writing, schema) as rows:
        for batch in _batches(parquet_files(job.rubrics)):
            failed = batch.filter(batch.column(RETRYABLE))
            if failed.num_rows:
                rows.write(_without_errors(failed, schema))
    return rows.num_rows


def told(found: Audit) -> str:
    """Say what an audit found."""
    parts = [
        f"{count} ids are {kind} ({', '.join(map(repr, found.shown[kind]))}{', ...' if count > 5 else ''})"
        for kind, count in (("missing", found.missing), ("repeated", found.repeated), ("foreign", found.foreign))
        if count
    ]
    return "; ".join(parts) or f"all {found.rows} ids are there, each once"


def _keep(file: Path, target: Path) -> None:
    retried = parquet.read_table(file, columns=[RETRYABLE])[RETRYABLE]
    if not compute.any(retried).as_py():
        link_or_copy(file, target)
        return
    with parquet.ParquetWriter(target, parquet.read_schema(file), compression="zstd") as writer:
        for batch in _batches([file]):
            writer.write_batch(batch.filter(compute.invert(batch.column(RETRYABLE))))


def _batches(files: Iterable[Path]) -> Iterable[pa.RecordBatch]:
    for path in files:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(1000)


def _without_errors(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    empty = pa.array([""] * batch.num_rows, pa.string())
    cleared = {ERROR_CODE, ERROR_MESSAGE, INPUT_LINE}
    columns = [empty if entry.name in cleared else batch.column(entry.name) for entry in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
