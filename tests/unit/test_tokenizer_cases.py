"""The cases of tests/cases/tokenizer, for this tokenizer and for the library `tokenizers`."""

import json
from pathlib import Path
from typing import Any

import pytest
from edited import edited
from rubricrm.errors import RubricrmError
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm.runtime.tokenizer_file import read_tokenizer_file

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "cases" / "tokenizer"
DEMO = ROOT / "sdk" / "python" / "rubricrm" / "demo_bundle" / "tokenizer.json"
NAMES = sorted(path.stem for path in CASES.glob("*.json"))


def contents(case: dict[str, Any]) -> str:
    if "contents" in case:
        return case["contents"]
    return json.dumps(edited(json.loads(DEMO.read_text("utf-8")), case.get("change", [])))


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, tmp_path: Path) -> None:
    case = json.loads((CASES / f"{name}.json").read_text("utf-8"))
    path = tmp_path / "tokenizer.json"
    path.write_text(contents(case), "utf-8")
    if "error" in case:
        with pytest.raises(RubricrmError) as caught:
            Tokenizer.from_file(path)
        assert_says(caught.value, case["error"], case["words"])
        return
    tokenizer = Tokenizer.from_file(path)
    plain = read_tokenizer_file(path).plain
    for example in case.get("encode", ()):
        assert tokenizer.encode(example["text"]) == example["ids"]
        assert plain.encode(example["text"], add_special_tokens=False).ids == example["ids"]
    for example in case.get("split_control", ()):
        assert tokenizer.split_control(example["text"]) == example["segments"]
    for example in case.get("decode", ()):
        decoder = tokenizer.text_decoder()
        assert [decoder.push(token_id) for token_id in example["ids"]] == example["pieces"]
        assert decoder.finish() == example["end"]
        assert tokenizer.decode(example["ids"]) == "".join((*example["pieces"], example["end"]))
    for example in case.get("refuse", ()):
        with pytest.raises(RubricrmError) as caught:
            tokenizer.encode(bytes.fromhex(example["bytes"]).decode("utf-8", errors="surrogatepass"))
        assert_says(caught.value, "REQUEST_INVALID", example["words"])


def assert_says(error: RubricrmError, code: str, words: list[str]) -> None:
    assert error.code == code
    assert [word for word in words if word not in str(error)] == []
