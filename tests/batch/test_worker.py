"""Tables of staged rows to tables of the output."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from batch_rows import StageRows, write_lines
from pyarrow import parquet
from rubricrm import RubricModel
from rubricrm.errors import RubricrmError, ServerUnreachable
from rubricrm.generation.options import GenerationOptions
from rubricrm_batch.columns import written_schema
from rubricrm_batch.errors import JobStopped
from rubricrm_batch.model_source import BundleSource
from rubricrm_batch.patience import Patience
from rubricrm_batch.worker import RubricWorker, answered_table
from scripted_model import result


@pytest.fixture(scope="module")
def demo_model() -> Iterator[RubricModel]:
    with RubricModel.demo() as model:
        yield model


def staged_table(directory: Path) -> tuple[pa.Table, pa.Schema]:
    table = pa.concat_tables(parquet.read_table(path) for path in directory.glob("*.parquet"))
    return table, written_schema(table.schema)


def test_rows_answers_and_errors_share_one_schema(tmp_path: Path, stage_rows: StageRows) -> None:
    lines = ({"request": "one", "n": 1}, {"request": "two", "n": 2}, {"request": " ", "n": 3})
    table, schema = staged_table(stage_rows(write_lines(tmp_path / "rows.jsonl", *lines)))
    answers = {"rows.jsonl:1": result("one", 9), "rows.jsonl:2": ServerUnreachable("away")}
    written = answered_table(table, answers, schema)
    assert written.schema == schema
    one, two, three = written.to_pylist()
    assert (one["n"], one["seed"], one["num_criteria"], one["error_code"]) == (1, 9, 1, "")
    assert json.loads(one["rubric_json"])["criteria"][0]["text"] == "The response is about one."
    assert (two["rubric"], two["error_code"], two["error_message"]) == (None, "SERVER_UNREACHABLE", "away")
    assert [row["retryable"] for row in (one, two, three)] == [False, True, False]
    assert three["error_code"] == "REQUEST_INVALID"
    alone = answered_table(table.slice(2), {}, schema)
    assert alone.schema == schema  # a block of errors only


def test_a_worker_answers_with_a_bundle_as_the_model_does(
    tmp_path: Path, stage_rows: StageRows, demo_model: RubricModel
) -> None:
    lines = ({"request": "Write a haiku about rain."}, b"{", {"request": "Name a color."}, {"request": "x " * 5000})
    table, schema = staged_table(stage_rows(write_lines(tmp_path / "rows.jsonl", *lines)))
    source = BundleSource(demo_model.bundle.path, None, 1, 4)
    assert source.identity() == {"manifest_sha256": demo_model.bundle.manifest_sha256}
    worker = RubricWorker(source, GenerationOptions(max_new_tokens=40), Patience(), schema, "request")
    rain, _, color, long = worker(table).to_pylist()
    for row in (rain, color):
        assert row["rubric"] == demo_model.generate(row["request"], max_new_tokens=40).text
    assert (long["error_code"], long["retryable"]) == ("PROMPT_TOO_LONG", False)


def test_a_model_that_cannot_be_opened_is_said_with_the_first_table(tmp_path: Path) -> None:
    source = BundleSource(tmp_path / "none", None, 1, 4)
    worker = RubricWorker(source, GenerationOptions(), Patience(), pa.schema([]), "request")
    with pytest.raises(JobStopped, match="cannot be opened: BUNDLE_NOT_FOUND"):
        worker(pa.table({"id": ["a"]}))
    with pytest.raises(RubricrmError, match="BUNDLE_NOT_FOUND"):
        source.identity()
