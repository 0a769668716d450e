"""The cases of tests/cases/prompt."""

import json
from pathlib import Path
from typing import Any

import pytest
from rubricrm.errors import RubricrmError
from rubricrm.runtime.manifest import ChatFacts, PrefixFacts, PromptFacts, RoleFacts
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "cases" / "prompt"
NAMES = sorted(path.stem for path in CASES.glob("*.json") if path.stem != "base")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(ROOT / "sdk" / "python" / "rubricrm" / "demo_bundle" / "tokenizer.json")


def changed_prompt(change: dict[str, Any], tokenizer: Tokenizer) -> Prompt:
    base = json.loads((CASES / "base.json").read_text("utf-8"))
    chat = base["chat"] | change.get("chat", {})
    prompt = base | change
    roles = {name: RoleFacts(**chat[name]) if chat[name] else None for name in ("system", "user", "assistant")}
    facts = PromptFacts(prompt["fields"], prompt["template"], "", "template.txt", (), PrefixFacts(0, {}))
    return Prompt(facts, ChatFacts(opening=chat["opening"], generation=chat["generation"], **roles), tokenizer)


def text_of(example: dict[str, str], key: str) -> str:
    return bytes.fromhex(example["bytes"]).decode("utf-8", "surrogatepass") if "bytes" in example else example[key]


def encode(prompt: Prompt, example: dict[str, Any]) -> list[int]:
    if "messages" in example:
        messages = [{"role": m["role"], "content": text_of(m, "content")} for m in example["messages"]]
        return prompt.encode_messages(messages)
    return prompt.encode_request(text_of(example, "text"))


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, tokenizer: Tokenizer) -> None:
    case = json.loads((CASES / f"{name}.json").read_text("utf-8"))
    if "error" in case:
        with pytest.raises(RubricrmError) as caught:
            changed_prompt(case["change"], tokenizer)
        assert_says(caught.value, case)
        return
    prompt = changed_prompt(case.get("change", {}), tokenizer)
    for example in case.get("requests", ()):
        assert prompt.encode_request(example["text"]) == example["ids"]
    for example in case.get("conversations", ()):
        assert prompt.encode_messages(example["messages"]) == example["ids"]
    if "fixed_prefix" in case:
        assert prompt.fixed_prefix() == case["fixed_prefix"]
    for example in case.get("refused", ()):
        with pytest.raises(RubricrmError) as caught:
            encode(prompt, example)
        assert_says(caught.value, example)


def assert_says(error: RubricrmError, expected: dict[str, Any]) -> None:
    assert error.code == expected["error"]
    assert [word for word in expected["words"] if word not in str(error)] == []
