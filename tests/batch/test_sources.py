"""Rows of files: what is read of them, and what becomes of those that cannot be read."""

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from rubricrm_batch import text_lines
from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.inputs import fingerprint, open_source
from rubricrm_batch.source import Fault, Source


def opened(path: Path, request: str = "request") -> Source:
    return open_source(str(path), request=request, split="train")


def rows_of_source(source: Source) -> list[dict[str, Any]]:
    return [row for batch in source.batches() for row in batch.columns.to_pylist()]


def faults_of(source: Source) -> dict[int, Fault]:
    return {batch.numbers[place]: fault for batch in source.batches() for place, fault in batch.faults.items()}


def written(path: Path, contents: bytes) -> Path:
    path.write_bytes(contents)
    return path


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner)
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "request"]), VALUES, min_size=1), min_size=1, max_size=8))
def test_every_value_of_jsonl_can_be_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict]) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    source = opened(path)
    read = rows_of_source(source)
    assert len(read) == len(rows)
    for given_row, row in zip(rows, read, strict=True):
        for name, value in row.items():
            wanted = given_row.get(name)
            texts = [other[name] for other in rows if other.get(name) is not None]
            is_json = pa.types.is_string(source.schema.field(name).type) and not all(isinstance(v, str) for v in texts)
            if is_json and value is not None and not (name == "request" and isinstance(wanted, str)):
                value = json.loads(value)
            assert value == wanted
            assert isinstance(value, bool) == isinstance(wanted, bool)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (b"not json", "ROW_MALFORMED", "is no JSON"),
        (b'{"request": "a"', "ROW_MALFORMED", "is no JSON"),
        (b'["request"]', "ROW_MALFORMED", "JSON list, expected an object"),
        (b'{"request": "a", "request": "b"}', "ROW_MALFORMED", "'request' appears twice"),
        (b'{"request": "\xff"}', "ROW_NOT_UTF8", "byte 13"),
        (b'{"request": "\\ud800"}', "ROW_NOT_UTF8", "lone surrogate"),
        (b"[" * 100_000, "ROW_MALFORMED", "is no JSON"),
        (b'{"request": 5}', "REQUEST_INVALID", "holds a int, expected text"),
    ],
    ids=["words", "cut", "list", "twice", "latin", "surrogate", "deep", "number"],
)
def test_a_line_that_cannot_be_read_is_a_fault_and_the_others_stay(
    tmp_path: Path, line: bytes, code: str, said: str
) -> None:
    path = written(tmp_path / "rows.jsonl", b'{"request": "one"}\n\n' + line + b'\n{"request": "two"}\n')
    source = opened(path)
    assert [row["request"] for row in rows_of_source(source)][::2] == ["one", "two"]
    ((number, fault),) = faults_of(source).items()
    assert (number, fault.code) == (3, code)
    assert said in fault.message
    if code != "REQUEST_INVALID":
        assert fault.line == line.decode(errors="backslashreplace")


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "MOST_BYTES", 100)
    path = written(tmp_path / "rows.jsonl", b'{"request": "' + b"x" * 1000 + b'"}\n{"request": "two"}\n')
    source = opened(path)
    assert [row["request"] for row in rows_of_source(source)] == [None, "two"]
    assert "more than 100 bytes" in faults_of(source)[1].message


def test_files_are_decompressed_and_their_mark_is_no_text(tmp_path: Path) -> None:
    contents = codecs.BOM_UTF8 + b'{"request": "one"}\n'
    path = written(tmp_path / "rows.jsonl.gz", gzip.compress(contents))
    assert rows_of_source(opened(path)) == [{"request": "one"}]


def test_csv_keeps_texts_as_they_stand(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", b'request,number\r\n"Say ""hi"",\nplease",007\r\n,NA\r\n')
    assert rows_of_source(opened(path)) == [
        {"request": 'Say "hi",\nplease', "number": "007"},
        {"request": "", "number": "NA"},
    ]


def test_a_row_of_csv_with_other_fields_or_bytes_is_a_fault(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", b"request,n\na,1\nb\nc,2,3\n\xe4,4\nd,5\n")
    source = opened(path)
    assert [row["request"] for row in rows_of_source(source)] == ["a", None, None, None, "d"]
    faults = faults_of(source)
    assert {number: (fault.code, fault.line) for number, fault in faults.items()} == {
        2: ("ROW_MALFORMED", "b"),
        3: ("ROW_MALFORMED", "c,2,3"),
        4: ("ROW_NOT_UTF8", "\\xe4,4"),
    }


@pytest.mark.parametrize(
    ("name", "contents", "said"),
    [
        ("rows.csv", b"", "is empty"),
        ("rows.csv", b"request,request\na,b\n", "names 'request' twice"),
        ("rows.csv", b"requ\xffest\na\n", "is no UTF-8"),
        ("rows.csv", b'request,n\n"a,1\nb,2\n', "never closed"),
        ("rows.jsonl", '{"request": "a"}'.encode("utf-16"), "is UTF-16"),
        ("rows.jsonl.gz", b"no gzip", "cannot be read"),
        ("rows.parquet", b"PAR1 no parquet", "cannot be read as Parquet"),
        ("rows.xlsx", b"", "cannot be told from its name"),
        ("rows.jsonl", b"\n".join(b'{"k%d": 1}' % n for n in range(1001)), "more than 1000 different keys"),
    ],
    ids=["empty", "twice", "header", "quote", "utf-16", "gzip", "parquet", "unknown", "keys"],
)
def test_a_file_that_is_faulty_as_a_whole_is_refused(tmp_path: Path, name: str, contents: bytes, said: str) -> None:
    path = written(tmp_path / name, contents)
    with pytest.raises(InputInvalid, match=said) as raised:
        rows_of_source(opened(path))
    assert str(path) in str(raised.value)


def test_what_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="does not exist, expected a file .jsonl"):
        opened(tmp_path / "none.jsonl")


def test_a_directory_of_parquet_is_read_file_by_file(tmp_path: Path) -> None:
    for name, texts in (("b.parquet", ["three"]), ("a.parquet", ["one", "two"]), ("_c.parquet", ["hidden"])):
        parquet.write_table(pa.table({"request": texts}), tmp_path / name)
    batches = list(opened(tmp_path).batches())
    assert [(batch.file, list(batch.numbers)) for batch in batches] == [("a.parquet", [1, 2]), ("b.parquet", [1])]


def test_files_of_a_directory_have_the_same_columns(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"request": ["a"]}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"request": [1]}), tmp_path / "b.parquet")
    with pytest.raises(InputInvalid, match="b.parquet: has other columns than .*a.parquet: request int64"):
        opened(tmp_path)
    with pytest.raises(InputInvalid, match="no file in it is called"):
        opened((tmp_path / "none").mkdir() or tmp_path / "none")


def test_a_fingerprint_is_that_of_all_bytes(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", b'{"request": "one"}\n')
    first = fingerprint(opened(path))
    assert fingerprint(opened(path)) == first
    written(path, b'{"request": "one!"}\n')
    assert fingerprint(opened(path)) != first
