"""The tables of the documents are those of the kept results."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

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
        assert text.count("\n") > 2 or document.name == "README.md"
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
