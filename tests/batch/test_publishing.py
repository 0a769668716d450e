"""The output: audited, whole, and later attempts in the place of rows that failed."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from batch_rows import read, write_lines
from pyarrow import parquet
from rubricrm.errors import RubricrmError, ServerUnreachable
from rubricrm_batch.answering import Answer
from rubricrm_batch.columns import written_schema
from rubricrm_batch.errors import JobIncomplete
from rubricrm_batch.inputs import open_source
from rubricrm_batch.job import Job, locked_job
from rubricrm_batch.publishing import MARKER, attempts_of, publish, stage_failed
from rubricrm_batch.staging import stage
from rubricrm_batch.worker import answered_table
from scripted_model import result


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """A job of six rows, the last one of which cannot be read."""
    lines = [{"request": f"request {number}", "n": number} for number in range(5)]
    path = write_lines(tmp_path / "rows.jsonl", *lines, b"{")
    with locked_job(tmp_path / "out") as job:
        source = open_source(str(path), request="request", split="train")
        stage(source, job.staged, request="request", id_column=None)
        job.begin({})
        yield job


def write_attempt(job: Job, staged: Path, number: int, failing: dict[str, RubricrmError]) -> Path:
    """Answer all staged rows, two per file."""
    table = pa.concat_tables(parquet.read_table(path) for path in staged.glob("*.parquet"))
    written = job.attempt(number) / "written"
    written.mkdir(parents=True)
    for start in range(0, len(table), 2):
        rows = table.slice(start, 2)
        answers: dict[str, Answer] = {}
        for row in rows.to_pylist():
            if not row["error_code"]:
                answers[row["id"]] = failing.get(row["request"]) or result(f"attempt {number}")
        schema = written_schema(table.schema)
        parquet.write_table(answered_table(rows, answers, schema), written / f"block-{start}.parquet")
    return written


def test_an_attempt_that_lacks_a_row_or_has_one_twice_is_not_published(job: Job) -> None:
    written = write_attempt(job, job.staged, 1, {})
    (written / "block-2.parquet").rename(written / "block-2.gone")
    with pytest.raises(JobIncomplete, match=r"2 ids are missing \('rows.jsonl:3', 'rows.jsonl:4'\)"):
        publish(job, written, 1)
    (written / "block-2.gone").rename(written / "block-2.parquet")
    (written / "again.parquet").write_bytes((written / "block-0.parquet").read_bytes())
    with pytest.raises(JobIncomplete, match=r"2 ids are repeated"):
        publish(job, written, 1)
    assert not job.is_published
    assert attempts_of(job.rubrics) == 0


def test_rows_that_failed_and_may_succeed_are_replaced(job: Job) -> None:
    failing = {"request 1": ServerUnreachable("away"), "request 4": ServerUnreachable("away")}
    found = publish(job, write_attempt(job, job.staged, 1, failing), 1)
    assert (found.failed, found.retryable) == (3, 2)
    again = job.attempt(2) / "staged"
    job.attempt(2).mkdir()
    assert stage_failed(job, again) == 2
    assert parquet.read_schema(next(again.glob("*.parquet"))) == parquet.read_schema(next(job.staged.glob("*.parquet")))
    untouched = (job.rubrics / "attempt-1-block-2.parquet").stat().st_ino
    found = publish(job, write_attempt(job, again, 2, {"request 4": ServerUnreachable("still away")}), 2)
    assert (found.is_whole, found.failed, found.retryable) == (True, 2, 1)
    rows = {row["id"]: row for row in read(job.rubrics)}
    assert [rows[f"rows.jsonl:{number}"]["n"] for number in range(1, 6)] == [0, 1, 2, 3, 4]
    assert "attempt 2" in rows["rows.jsonl:2"]["rubric"]
    assert "attempt 1" in rows["rows.jsonl:1"]["rubric"]
    assert rows["rows.jsonl:5"]["error_message"] == "still away"
    assert (rows["rows.jsonl:6"]["error_code"], rows["rows.jsonl:6"]["input_line"]) == ("ROW_MALFORMED", "{")
    assert attempts_of(job.rubrics) == 2
    assert (job.rubrics / "attempt-1-block-2.parquet").stat().st_ino == untouched  # linked, not copied


def test_other_readers_of_parquet_pass_the_marker_over(job: Job) -> None:
    publish(job, write_attempt(job, job.staged, 1, {}), 1)
    assert (job.rubrics / MARKER).is_file()
    assert parquet.read_table(job.rubrics).num_rows == 6


def test_a_failed_attempt_leaves_the_output_as_it_was(job: Job) -> None:
    publish(job, write_attempt(job, job.staged, 1, {"request 1": ServerUnreachable("away")}), 1)
    before = {path.name: path.read_bytes() for path in job.rubrics.iterdir()}
    empty = job.attempt(2) / "written"
    empty.mkdir(parents=True)
    with pytest.raises(JobIncomplete, match="1 ids are missing"):
        publish(job, empty, 2)
    assert {path.name: path.read_bytes() for path in job.rubrics.iterdir()} == before
