"""The tables of the documents are those of the kept results."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def measured(load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return load_script("measured")


def test_documents_show_what_is_kept(measured: ModuleType) -> None:
    tables = list(measured.tables())
    documents = {"README.md", "BENCHMARKING.md", "QUANTIZATION.md", "QUANTIZATION_TABLES.md", "TENSORRT.md"}
    assert {document.name for document, _, _ in tables} == documents
    for document, mark, text in tables:
        assert text.count("\n") > 1 or document.name == "README.md"
        assert f"<!-- {mark}: begin -->\n{text}\n<!-- {mark}: end -->" in document.read_text("utf-8"), mark


def test_the_short_table_leaves_out_what_is_wrong_or_failed(measured: ModuleType) -> None:
    times = {"ours": {"ttft_ms": [10, 10], "tpot_ms": [1, 2]}, "rival": {"ttft_ms": [20, 40], "tpot_ms": [3, 2]}}
    facts = {"num_bytes": 2_500_000_000, "agreement": 0.5, "shapes": {"390/200": times}}
    found = {
        "ours": "ours:a",
        "contenders": {
            "ours:a": facts,
            "good:a": facts,
            "wrong:a": facts | {"agreement": 0.0},
            "failed:a": {"shapes": {"390/200": {"error": "no"}}},
        },
    }
    sentence, _, *lines = measured.rivals_in_short(found).splitlines()
    assert sentence == "Ours takes 10 ms to the first token and 2 ms per token after it."
    assert lines[2:] == [
        "| ours a | 2.50 | 1 | 1 |",
        "| good a | 2.50 | 3.00 | 2.00 |",
        "| wrong a | 2.50 | not ranked | not ranked |",
    ]


def kept(began: str, commit: str, contenders: dict[str, Any]) -> dict[str, Any]:
    """Return what rivals.py keeps of a commit: in 390/200 ours takes 10 ms to the first token and 2 ms per token."""
    return {
        "ours": "ours:a",
        "began": began,
        "commit": commit,
        "machine": {"cpu": "a processor"},
        "contenders": {"ours:a": {"agreement": 0.5, "shapes": {}}, **contenders},
    }


def beside(first: float, token: float, agreement: float = 0.5) -> dict[str, Any]:
    """Return a contender's facts."""
    row = {"ours": {"ttft_ms": [10], "tpot_ms": [2]}, "rival": {"ttft_ms": [first], "tpot_ms": [token]}}
    return {"agreement": agreement, "shapes": {"390/200": row}}


def test_one_line_per_commit_names_the_fastest_that_is_ranked(measured: ModuleType, tmp_path: Path) -> None:
    later = {"one:a": beside(12, 9), "two:b": beside(15, 3), "ours:off": beside(1, 1), "wrong:a": beside(1, 1, 0)}
    for found in (
        kept("2026-11-27T08:00:00+00:00", "2" * 12, later),
        kept("2026-11-25", "1" * 12, {"wrong:a": beside(1, 1, 0)}),
        kept("2026-11-28T08:00:00+00:00", "3" * 12, {"failed:a": {"agreement": 0.5, "shapes": {}}}),
    ):
        (tmp_path / f"{found['commit']}.json").write_text(json.dumps(found))
    commits = measured.read_commits(tmp_path)
    assert [found["commit"][0] for found in commits] == ["1", "2"]
    assert measured.commit_table(commits).splitlines()[2:] == [
        "| 2026-11-25 | `111111111111` | a processor | ours a | 10 | 2.0 | none | none |",
        "| 2026-11-27 | `222222222222` | a processor | ours a | 10 | 2.0 | one a: 1.20 | two b: 1.50 |",
    ]
