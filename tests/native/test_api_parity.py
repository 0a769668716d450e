"""The C API gives the results of the Python package, to the last character of their JSON but for times."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import rubricrm_ctypes as native
from both_sides import LIBRARY, assert_equal, comparable, needs_library, opened_model
from judge_bundle import judge_bundle as pairwise_bundle
from rubricrm import JudgeModel, RubricModel
from rubricrm.errors import RubricrmError
from rubricrm.rubric import form
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


MANY = (*REQUESTS, "", "a\0b", "word " * 5000, REQUESTS[0], " \n", REQUESTS[1])


@pytest.mark.parametrize("max_concurrency", [1, 2, 5, 100])
def test_outcomes_of_many_are_equal(both: tuple[RubricModel, native.Model], max_concurrency: int) -> None:
    model, opened = both
    way: dict[str, Any] = {"max_new_tokens": 24, "max_concurrency": max_concurrency}
    expected = {outcome.index: outcome for outcome in model.generate_many(MANY, **way)}
    found: dict[int, native.Outcome] = {}
    opened.generate_many(MANY, lambda outcome: found.setdefault(outcome.index, outcome) is outcome, **way)
    assert sorted(found) == sorted(expected) == list(range(len(MANY)))
    for index, outcome in expected.items():
        given = found[index]
        if outcome.result is None:
            assert given.result is None
            assert str(given.error) == str(outcome.error)
        else:
            assert given.error is None
            assert json.loads(given.result or "")["text"] == outcome.result.text


def test_requests_end_in_the_same_order_one_at_a_time(both: tuple[RubricModel, native.Model]) -> None:
    model, opened = both
    expected = [outcome.index for outcome in model.generate_many(MANY, max_new_tokens=2, max_concurrency=1)]
    found: list[int] = []

    def note(outcome: native.Outcome) -> bool:
        found.append(outcome.index)
        return len(found) < len(MANY)

    opened.generate_many(MANY, note, max_new_tokens=2, max_concurrency=1)
    assert found == expected


def test_many_that_fill_the_line_wait_for_each_other(library: native.Library) -> None:
    line: dict[str, Any] = {"max_concurrency": 1, "max_waiting": 1}
    way: dict[str, Any] = {"max_new_tokens": 3, "max_concurrency": 10}
    opened = opened_model(library, DEMO_BUNDLE, **line)
    with RubricModel.demo(threads=1, **line) as model:
        expected = {
            outcome.index: outcome.result and outcome.result.text for outcome in model.generate_many(MANY, **way)
        }
    found: dict[int, str | None] = {}

    def note(outcome: native.Outcome) -> bool:
        found[outcome.index] = None if outcome.result is None else json.loads(outcome.result)["text"]
        return True

    opened.generate_many(MANY, note, **way)
    opened.close()
    assert found == expected


def test_a_cancelled_call_begins_nothing_more(both: tuple[RubricModel, native.Model]) -> None:
    opened = both[1]
    found: list[native.Outcome] = []

    def note(outcome: native.Outcome) -> bool:
        found.append(outcome)
        return len(found) < 2

    opened.generate_many(["", "Write a haiku.", ""] * 3, note, max_concurrency=4)
    assert [outcome.index for outcome in found] == [0, 2]
    with pytest.raises(native.RubricrmError, match="OPTION_INVALID: top_p"):
        opened.generate_many(["x"], note, top_p=2.0)


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


@pytest.mark.parametrize("keep_rubric", [True, False])
def test_a_judges_prompt_and_text_are_equal(library: native.Library, tmp_path: Path, keep_rubric: bool) -> None:
    bundle = pairwise_bundle(tmp_path / "bundle", keep_rubric=keep_rubric)
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


@pytest.mark.parametrize(
    "text", ["1) The response is short. [Hard Rule]\n- The response rhymes [Principle]", "", "1. It is short."]
)
def test_a_rubric_is_written_and_weighed_alike(library: native.Library, text: str) -> None:
    rubric = parse(text)
    for weights in ((3.0, 1.0), (0.25, 0.0), (0.0, 0.0), (-1.0, 1.0), (math.inf, 1.0)):
        expected = outcome_of(lambda weights=weights: list(rubric.weights(*weights)))
        assert outcome_of(lambda weights=weights: library.weights(text.encode(), *weights)) == expected
    assert outcome_of(lambda: library.render(text.encode())) == outcome_of(rubric.render)


def test_the_form_for_other_engines_is_the_packages(library: native.Library) -> None:
    for max_items in (1, 7, form.MAX_ITEMS, 64):
        assert library.form_regex(max_items) == form.regex(max_items)
        assert library.form_gbnf(max_items) == form.gbnf(max_items)
    assert (library.form_regex(), library.form_gbnf()) == (form.regex(), form.gbnf())


def outcome_of(call: Callable[[], Any]) -> Any:
    """What a call returns, or the text of its error."""
    try:
        return call()
    except (RubricrmError, native.RubricrmError) as error:
        return str(error)
