"""Data sets in the layout of the hub."""

import builtins
from pathlib import Path
from typing import Any

import pytest
from batch_rows import read, write_lines
from rubricrm.errors import DependencyMissing
from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.inputs import fingerprint, open_source
from rubricrm_batch.staging import stage


def test_a_local_data_set_is_staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    (tmp_path / "colors").mkdir()
    lines = [{"request": f"Name {number} colors.", "tags": ["a", "b"]} for number in range(3)]
    write_lines(tmp_path / "colors/train.jsonl", *lines)
    name = f"hub:{tmp_path / 'colors'}"
    source = open_source(name, request="request", split="train")
    stage(source, tmp_path / "staged", request="request", id_column=None)
    rows = read(tmp_path / "staged")
    assert [row["id"] for row in rows] == [f"colors/train:{number}" for number in (1, 2, 3)]
    assert [row["request"] for row in rows] == [line["request"] for line in lines]
    assert rows[0]["tags"] == ["a", "b"]
    assert fingerprint(source) == fingerprint(open_source(name, request="request", split="train"))
    with pytest.raises(InputInvalid, match="the split 'test' cannot be loaded"):
        open_source(name, request="request", split="test")


def test_without_datasets_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without_datasets(name: str, *rest: Any) -> Any:
        if name == "datasets":
            raise ModuleNotFoundError("No module named 'datasets'", name="datasets")
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_datasets)
    with pytest.raises(DependencyMissing, match=r"needs datasets, which is not installed.*batch,hf"):
        open_source("hub:owner/name", request="request", split="train")
