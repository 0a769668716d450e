"""Staging: every row gets an id, and faults of the input as a whole are said before anything is done."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from batch_rows import StageRows, read, write_lines
from pyarrow import parquet
from rubricrm.errors import WriteFailed
from rubricrm_batch import staging
from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.parquet_rows import RowWriter


def test_rows_without_ids_are_called_by_file_and_number(tmp_path: Path, stage_rows: StageRows) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"request": "one"}, b"", {"request": "two"})
    assert [(row["id"], row["request"]) for row in read(stage_rows(path))] == [
        ("rows.jsonl:1", "one"),
        ("rows.jsonl:3", "two"),
    ]


def test_given_ids_are_texts_or_integers(tmp_path: Path, stage_rows: StageRows) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"request": "one", "n": 7}, {"request": "two", "n": 8})
    assert [row["id"] for row in read(stage_rows(path, id_column="n"))] == ["7", "8"]


def test_columns_are_kept_and_those_with_our_names_renamed(tmp_path: Path, stage_rows: StageRows) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"id": "a", "rubric": "old", "request": "one", "more": {"x": [1]}})
    (row,) = read(stage_rows(path, id_column="id"))
    assert (row["id"], row["input_id"], row["input_rubric"]) == ("a", "a", "old")
    assert json.loads(row["more"]) == {"x": [1]}


def test_rows_with_faults_are_staged_with_them(tmp_path: Path, stage_rows: StageRows) -> None:
    lines = ({"request": "one"}, {"request": " "}, {"request": None}, {"other": 1}, {"request": "a\0b"}, b"{")
    rows = read(stage_rows(write_lines(tmp_path / "rows.jsonl", *lines)))
    assert [row["error_code"] for row in rows] == [
        "",
        "REQUEST_INVALID",
        "REQUEST_MISSING",
        "REQUEST_MISSING",
        "REQUEST_INVALID",
        "ROW_MALFORMED",
    ]
    assert [row["input_line"] for row in rows] == ["", "", "", "", "", "{"]
    assert all(row["error_message"] for row in rows[1:])


def test_a_request_of_parquet_that_is_no_utf8_is_a_fault(tmp_path: Path, stage_rows: StageRows) -> None:
    texts = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0"), pa.py_buffer(b"ok\xff\xfe"))
    parquet.write_table(pa.table({"request": texts}), tmp_path / "rows.parquet")
    staged = parquet.read_table(stage_rows(tmp_path / "rows.parquet"), columns=["error_code", "input_line"])
    assert staged.to_pylist() == [
        {"error_code": "", "input_line": ""},
        {"error_code": "ROW_NOT_UTF8", "input_line": "\\xff\\xfe"},
    ]


@pytest.mark.parametrize(
    ("lines", "id_column", "said"),
    [
        ([{"prompt": "one"}], None, "no column 'request'; there are prompt. Name one with --column"),
        ([{"request": "one"}], "n", "no column 'n'; there are request. Name one with --id"),
        ([b"{", b"["], None, "holds no row that can be read"),
        ([{"request": 1}], None, "'request' holds int64, expected text"),
        ([{"request": "one", "n": 1.5}], "n", "are double, expected text or integers"),
        ([{"request": "one", "n": "a"}, {"request": "two", "n": None}], "n", "1 rows have no id .*: rows.jsonl:2"),
        ([{"request": "one", "n": "a"}] * 3, "n", "1 ids repeat: 'a' in rows 1, 2, 3"),
        ([{"request": "one", "id": 1, "input_id": 2}], None, "'input_id' would be the name of two columns"),
    ],
    ids=["request", "id", "unread", "kind", "float", "null", "repeated", "names"],
)
def test_a_fault_of_the_whole_leaves_nothing(
    tmp_path: Path, stage_rows: StageRows, lines: list, id_column: str | None, said: str
) -> None:
    path = write_lines(tmp_path / "rows.jsonl", *lines)
    with pytest.raises(InputInvalid, match=said):
        stage_rows(path, id_column=id_column)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_rows_is_refused(tmp_path: Path, stage_rows: StageRows) -> None:
    (tmp_path / "rows.csv").write_text("request\n")
    with pytest.raises(InputInvalid, match="has no rows"):
        stage_rows(tmp_path / "rows.csv")


def test_a_full_disk_leaves_nothing(tmp_path: Path, stage_rows: StageRows, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = write_lines(tmp_path / "rows.jsonl", {"request": "one"})
    monkeypatch.setattr(RowWriter, "write", full)
    with pytest.raises(WriteFailed, match="the disk is full"):
        stage_rows(path)
    assert list(tmp_path.iterdir()) == [path]


MEMORY = """
import sys
from pathlib import Path
from rubricrm_batch.inputs import open_source
from rubricrm_batch.staging import stage
path = Path(sys.argv[1])
stage(open_source(str(path), request="request", split="train"), path.with_name("s"), request="request", id_column="n")
(line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(int(line.split()[1]) // 1024)
"""


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    def megabytes(num_rows: int) -> int:
        directory = tmp_path / str(num_rows)
        directory.mkdir()
        text = "x" * 4000
        path = write_lines(directory / "rows.jsonl", *({"n": f"r{n}", "request": text} for n in range(num_rows)))
        done = subprocess.run([sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert megabytes(12_000) < megabytes(2_000) + 30  # 40 MB of requests more


def test_the_names_of_renamed_columns_are_known() -> None:
    assert staging.staged_name(pa.schema([("rubric", pa.string())]), "rubric") == "input_rubric"
    assert staging.staged_name(pa.schema([("prompt", pa.string())]), "prompt") == "prompt"
