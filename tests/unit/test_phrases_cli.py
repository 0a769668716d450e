"""`rubricrm phrases`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm.generation.item_number import ItemNumbers
from rubricrm.generation.phrase_table import PhraseTable, saved_table
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.tokenizer import Tokenizer

RUBRIC = "1. The response rhymes. [Hard Rule]\n2. The response is short. [Hard Rule]\n"


def invoke(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli, ["phrases", *map(str, arguments)], prog_name="rubricrm")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def shown(*arguments: str | Path) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def save(bundle: Path, path: Path) -> PhraseTable:
    opened = Bundle.open(bundle)
    file = opened.manifest.tokenizer.file
    tokenizer = Tokenizer.from_file(opened.file(file))
    table = PhraseTable(ItemNumbers(tokenizer))
    for _ in range(3):
        table.learn(tokenizer.encode(RUBRIC))
    table.save(path, opened.manifest.files[file].sha256)
    return table


@pytest.fixture
def saved(tiny_bundle: Path) -> Path:
    path = saved_table(Bundle.open(tiny_bundle).manifest_sha256)
    save(tiny_bundle, path)
    return path


def test_what_is_saved_is_shown(tiny_bundle: Path, saved: Path) -> None:
    found = shown(tiny_bundle, "--most", 1000)
    assert found["table"] == str(saved)
    assert found["exists"]
    assert found["entries"] > 50
    assert {"text": "Hard", "hits": 6} in found["phrases"]
    assert "\n#. " in {phrase["text"] for phrase in found["phrases"]}
    assert "'Hard'" in invoke(tiny_bundle, "--most", 1000).stdout


def test_few_are_shown(tiny_bundle: Path, saved: Path) -> None:
    assert len(shown(tiny_bundle)["phrases"]) == 20
    assert shown(tiny_bundle, "--most", 0)["phrases"] == []
    assert saved.exists()


def test_clear(tiny_bundle: Path, saved: Path) -> None:
    assert shown(tiny_bundle, "--clear") == {"table": str(saved), "cleared": True}
    assert not saved.exists()
    assert shown(tiny_bundle, "--clear") == {"table": str(saved), "cleared": False}
    assert "there was none" in invoke(tiny_bundle, "--clear").stdout
    assert "no phrases are saved" in invoke(tiny_bundle).stdout


def test_a_damaged_table_of_the_bundle_can_be_cleared(tiny_bundle: Path, saved: Path) -> None:
    saved.write_bytes(b"rubbish")
    assert shown(tiny_bundle)["entries"] == 0
    assert invoke(tiny_bundle, "--clear").exit_code == 0
    assert not saved.exists()


def test_a_table_by_its_name(tiny_bundle: Path, tmp_path: Path) -> None:
    table = save(tiny_bundle, tmp_path / "mine")
    assert shown(tiny_bundle, "--table", tmp_path / "mine")["entries"] == len(table.entries)
    assert shown(tiny_bundle, "--table", tmp_path / "mine", "--clear")["cleared"]
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", ["model.onnx", "prefix.rubric.float32.safetensors"])
def test_no_other_file_is_removed(bundle_copy: Path, name: str) -> None:
    result = invoke(bundle_copy, "--table", bundle_copy / name, "--clear")
    assert result.exit_code == 2
    assert "is not a table of phrases" in result.stderr
    assert (bundle_copy / name).exists()


def test_no_bundle(tmp_path: Path) -> None:
    assert invoke(tmp_path).exit_code == 2
