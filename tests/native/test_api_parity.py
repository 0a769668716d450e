"""The C API gives the results of the Python package, to the last character of their JSON but for times."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import rubricrm_ctypes as native
from both_sides import LIBRARY, assert_equal, comparable, needs_library, opened_model
from judge_bundle import judge_bundle as pairwise_bundle
from rubricrm import JudgeModel, RubricModel
from rubricrm.errors import RubricrmError
from rubricrm.rubric.rubric import parse
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm.text_model import DEMO_BUNDLE

pytestmark = [pytest.mark.native, needs_library]

REQUESTS = (
    "Write a haiku about rain.",
    "Explain to a ten-year-old how a rainbow forms. Use fewer than 100 words and end with a question.",
    "日本の首都は？ 🙂 <|im_end|>",
    "Write",
    "def merge(a: list[int], b: list[int]) -> list[int]:  # [Hard Rule]\n    return sorted(a + b)\n\nExplain it.",
)
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"max_new_tokens": 12},
    {"constrain": False, "logprobs": 3},
    {"temperature": 0.8, "seed": 7, "top_p": 0.95, "top_k": 40},
    {"temperature": 1.5, "seed": 2**64 - 1, "min_p": 0.02, "logprobs": 0, "constrain": False, "max_new_tokens": 80},
    {"stop": ["[Principle]", "3. "]},
)


@pytest.fixture(scope="module")
def library() -> native.Library:
    return native.Library(LIBRARY)


@pytest.fixture(scope="module", params=[True, False], ids=["draft", "plain"])
def both(request: pytest.FixtureRequest, library: native.Library) -> Iterator[tuple[RubricModel, native.Model]]:
    draft = bool(request.param)
    opened = opened_model(library, DEMO_BUNDLE, draft=native.ON if draft else native.OFF)
    with RubricModel.demo(threads=1, draft=draft) as model:
        yield model, opened
    opened.close()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way) or "greedy")
@pytest.mark.parametrize("request_text", REQUESTS, ids=lambda text: text[:12])
def test_results_are_equal(both: tuple[RubricModel, native.Model], request_text: str, way: dict[str, Any]) -> None:
    model, opened = both
    expected = model.generate(request_text, **way)
    found = opened.generate(request_text, **way)
    assert_equal(comparable(found), comparable(expected.to_json()))
    if "seed" in way:
        assert json.loads(found)["seed"] == way["seed"]


def test_the_json_is_written_as_python_writes_it(both: tuple[RubricModel, native.Model]) -> None:
    text = both[1].generate(REQUESTS[2], logprobs=2, max_new_tokens=20)
    assert text == json.dumps(json.loads(text), ensure_ascii=False)


def test_conversations_are_equal(both: tuple[RubricModel, native.Model]) -> None:
    model, opened = both
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a color."}]
    expected = model.generate_text(messages, max_new_tokens=30)
    found = opened.generate_messages(messages, max_new_tokens=30)
    assert_equal(comparable(found), comparable(expected.to_json()))


def test_prompts_are_equal(both: tuple[RubricModel, native.Model]) -> None:
    model, opened = both
    for request in REQUESTS:
        assert opened.encode(request) == model._prompt.encode_request(request)


def test_streams_are_equal(both: tuple[RubricModel, native.Model]) -> None:
    model, opened = both
    for request in REQUESTS:
        with model.stream(request) as stream:
            expected = [(event.text, [c.text for c in event.criteria], event.takes_back) for event in stream]
        found: list[Any] = []

        def note(event: native.Event, found: list[Any] = found) -> bool:
            criteria = [str(event.criteria[i].text) for i in range(event.num_criteria)]
            found.append((str(event.text), criteria, bool(event.takes_back)))
            return True

        opened.stream(request, note)
        assert found == expected


def test_four_at_once_are_equal(both: tuple[RubricModel, native.Model]) -> None:
    model, opened = both
    expected = [model.generate(request).text for request in REQUESTS[:4]]
    with ThreadPoolExecutor(4) as pool:
        found = [json.loads(text)["text"] for text in pool.map(opened.generate, REQUESTS[:4])]
    assert found == expected


@pytest.mark.parametrize(
    ("request_text", "way"),
    [
        ("", {}),
        (" \n", {}),
        ("a\0b", {}),
        ("word " * 5000, {}),
        ("x", {"temperature": -1.0}),
        ("x", {"temperature": 0.0001}),
        ("x", {"top_p": 1.5}),
        ("x", {"min_p": -0.5}),
        ("x", {"logprobs": 21}),
        ("x", {"stop": [""]}),
        ("x", {"timeout_s": -1.0}),
    ],
)
def test_errors_are_equal(both: tuple[RubricModel, native.Model], request_text: str, way: dict[str, Any]) -> None:
    model, opened = both
    with pytest.raises(RubricrmError) as expected:
        model.generate(request_text, **way)
    with pytest.raises(native.RubricrmError) as found:
        opened.generate(request_text, **way)
    assert found.value.code == expected.value.code
    if expected.value.code in ("REQUEST_INVALID", "PROMPT_TOO_LONG"):
        assert str(found.value) == str(expected.value)


JUDGE = "Judge <|im_end|>\n{answer}\nby {request}, { and }."


@pytest.fixture
def judge_bundle(tmp_path: Path) -> Path:
    """The demo bundle with a second prompt, of two fields that stand in another order than their names."""
    bundle = tmp_path / "bundle"
    shutil.copytree(DEMO_BUNDLE, bundle)
    manifest = json.loads((bundle / "rubricrm.json").read_text("utf-8"))
    manifest["prompts"]["judge"] = {
        **manifest["prompts"]["rubric"],
        "fields": {"request": "{request}", "response": "{answer}"},
        "template": JUDGE,
        "template_sha256": hashlib.sha256(JUDGE.encode()).hexdigest(),
        "prefix": {"num_tokens": 0, "files": {}},
        "grammar": None,
        "phrases": None,
    }
    (bundle / "rubricrm.json").write_text(json.dumps(manifest), "utf-8")
    return bundle


def test_a_prompt_by_name_takes_its_fields_as_text(library: native.Library, judge_bundle: Path) -> None:
    opened = opened_model(library, judge_bundle)
    bundle = Bundle.open(judge_bundle)
    tokenizer, chat = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file)), bundle.manifest.chat
    values = {"request": "Write {answer} <|im_end|>.", "response": "Rain {request} falls."}
    split = tokenizer.split_control
    begin, middle, end = JUDGE.replace("{answer}", "\0").replace("{request}", "\0").split("\0")
    segments = [*split(chat.opening), *split(chat.user.before), *split(begin), values["response"], *split(middle)]
    segments += [values["request"], *split(end), *split(chat.user.after), *split(chat.generation)]
    expected = tokenizer.encode_segments(segments)
    assert opened.encode_fields("judge", values) == expected
    result = json.loads(opened.generate_fields("judge", values, max_new_tokens=8))
    assert result["usage"]["prompt_tokens"] == len(expected)
    assert "rubric" not in result
    opened.close()


def test_a_judges_prompt_and_text_are_equal(library: native.Library, tmp_path: Path) -> None:
    bundle = pairwise_bundle(tmp_path / "bundle", keep_rubric=True)
    values = {
        "instruction": "Write {rubric} <|im_end|>.",
        "rubric": "1. The response is short. [Hard Rule]",
        "response_a": "日本 {instruction}",
        "response_b": "<think>",
    }
    opened = opened_model(library, bundle)
    with JudgeModel.open(bundle, threads=1) as judge:
        assert opened.encode_fields("judge-pairwise", values) == judge._prompt.encode(values)
        options: dict[str, Any] = {"max_new_tokens": 24, "temperature": 0.7, "seed": 3}
        result = judge.judge(*values.values(), **options)
    found = json.loads(opened.generate_fields("judge-pairwise", values, **options))
    assert (found["text"], found["finish_reason"]) == (result.judgment.text, result.finish_reason)
    opened.close()


def test_rubrics_are_equal(library: native.Library) -> None:
    for text in ("", "1. The response is short. [Hard Rule]", "<think>x</think>\n- a\n- b [Principle]\x00", "\ud800"):
        data = text.encode("utf-8", "surrogatepass")
        assert library.parse(data) == parse(data.decode("utf-8", "replace")).to_dict()
