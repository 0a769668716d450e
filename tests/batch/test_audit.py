"""Ids in against ids out."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from rubricrm_batch.audit import audit
from rubricrm_batch.id_partitions import IdPartitions

IDS = st.text(st.characters(codec="utf-8"), max_size=3)


def write_ids(directory: Path, ids: list[str], codes: list[str]) -> None:
    directory.mkdir()
    columns = {
        "id": pa.array(ids, pa.string()),
        "error_code": pa.array(codes, pa.string()),
        "retryable": [code == "SERVER_BUSY" for code in codes],
        "finish_reason": ["stop" if not code else None for code in codes],
    }
    table = pa.table(columns, schema=pa.schema([*(pa.field(n, pa.string()) for n in ("id", "error_code")), *FLAGS]))
    half = len(ids) // 2
    parquet.write_table(table.slice(0, half), directory / "a.parquet")
    parquet.write_table(table.slice(half), directory / "b.parquet")


FLAGS = [pa.field("retryable", pa.bool_()), pa.field("finish_reason", pa.string())]


@given(st.sets(IDS, min_size=1), st.lists(IDS))
def test_an_audit_counts_as_python_does(
    tmp_path_factory: pytest.TempPathFactory, given_ids: set[str], changes: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("audit")
    out = sorted(given_ids)[len(changes) % 3 :] + changes
    write_ids(directory / "in", sorted(given_ids), [""] * len(given_ids))
    write_ids(directory / "out", out, [""] * len(out))
    found = audit(directory / "in", directory / "out", directory / "scratch")
    assert found.rows == len(given_ids)
    assert found.missing == len(given_ids - set(out))
    assert found.foreign == len(set(out) - given_ids)
    assert found.repeated == sum(count > 1 for count in Counter(out).values())
    assert found.is_whole == (sorted(out) == sorted(given_ids))


def test_an_audit_counts_errors_and_shows_ids(tmp_path: Path) -> None:
    write_ids(tmp_path / "in", [f"r{number}" for number in range(100)], [""] * 100)
    write_ids(tmp_path / "out", ["r0", "r1", "r1", "x"], ["", "SERVER_BUSY", "PROMPT_TOO_LONG", ""])
    found = audit(tmp_path / "in", tmp_path / "out", tmp_path / "scratch")
    assert (found.rows, found.missing, found.repeated, found.foreign) == (100, 98, 1, 1)
    assert len(found.shown["missing"]) == 5
    assert (found.shown["repeated"], found.shown["foreign"]) == (["r1"], ["x"])
    assert (found.failed, found.retryable, dict(found.finish_reasons)) == (2, 1, {"stop": 2})


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_equal_ids_are_in_one_part(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    parts = list(IdPartitions(tmp_path_factory.mktemp("ids") / "parts", ids).parts())
    assert Counter(row for part in parts for row in part) == Counter(ids)
    assert sum(len(set(part)) for part in parts) == len(set(ids))
