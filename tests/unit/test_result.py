"""Results to JSON and back, and what they look like in a log."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm import Criterion, Kind, Rubric, RubricResult, TextResult
from rubricrm.errors import ResultInvalid, RubricMalformed
from rubricrm.generation.constraint import Overrules
from rubricrm.generation.result import FINISH_REASONS, Timings, Usage
from rubricrm.generation.sampling import TokenLogprobs

counts = st.integers(0, 2**40)
times = st.floats(0, 1e12)
scores = st.floats(-1e30, 0)
ids = st.integers(0, 200_000)
entries = st.builds(TokenLogprobs, ids, scores, st.lists(st.tuples(ids, scores), max_size=3).map(tuple))
common: dict[str, Any] = {
    "text": st.text(),
    "finish_reason": st.sampled_from(sorted(FINISH_REASONS)),
    "usage": st.builds(Usage, counts, counts, counts, counts, counts),
    "timings_ms": st.builds(Timings, times, times, st.none() | times, times, times),
    "seed": st.integers(0, 2**64 - 1),
    "logprobs": st.none() | st.lists(entries, max_size=3).map(tuple),
}
criteria = st.builds(Criterion, st.none() | st.integers(0, 99), st.text(), st.none() | st.sampled_from(Kind))
rubrics = st.builds(Rubric, st.lists(criteria, max_size=3).map(tuple))
text_results = st.builds(TextResult, **common)
rubric_results = st.builds(
    RubricResult,
    request=st.text(),
    rubric=rubrics,
    grammar_overrules=st.none() | st.builds(Overrules, counts, st.floats(0, 1e6)),
    model=st.dictionaries(st.text(max_size=5), st.text(), max_size=4),
    **common,
)


@given(result=text_results | rubric_results)
def test_a_result_is_the_same_after_json(result: TextResult | RubricResult) -> None:
    kind = type(result)
    assert kind.from_dict(result.to_dict()) == result
    assert kind.from_json(result.to_json()) == result
    assert kind.from_json(result.to_json(indent=2).encode()) == result
    assert result.to_dict()["schema_version"] == 1


EXAMPLE = RubricResult(
    request="Write a haiku.",
    text="1. The response is a haiku. [Hard Rule]",
    rubric=Rubric((Criterion(1, "The response is a haiku.", Kind.HARD_RULE),)),
    finish_reason="length",
    usage=Usage(40, 27, 12, 5, 3),
    timings_ms=Timings(0.1, 2.0, 3.0, 4.0, 7.0),
    seed=2**64 - 1,
    logprobs=(TokenLogprobs(7, -0.5, ((7, -0.5), (9, -1.25))),),
    grammar_overrules=Overrules(2, 0.75),
    model={"name": "demo"},
)


def test_golden_dictionary() -> None:
    assert EXAMPLE.to_dict() == {
        "schema_version": 1,
        "request": "Write a haiku.",
        "text": "1. The response is a haiku. [Hard Rule]",
        "rubric": {
            "schema_version": 1,
            "criteria": [{"number": 1, "text": "The response is a haiku.", "kind": "hard_rule"}],
            "issues": [],
        },
        "finish_reason": "length",
        "usage": {
            "prompt_tokens": 40,
            "cached_prompt_tokens": 27,
            "completion_tokens": 12,
            "drafted_tokens": 5,
            "accepted_tokens": 3,
        },
        "timings_ms": {"tokenize": 0.1, "prefill": 2.0, "first_token": 3.0, "decode": 4.0, "total": 7.0},
        "seed": 18446744073709551615,
        "logprobs": [{"token_id": 7, "logprob": -0.5, "top": [[7, -0.5], [9, -1.25]]}],
        "grammar_overrules": {"count": 2, "probability": 0.75},
        "model": {"name": "demo"},
    }
    assert json.loads(EXAMPLE.to_json()) == EXAMPLE.to_dict()


def changed(**values: object) -> dict[str, Any]:
    return {**EXAMPLE.to_dict(), **values}


WRONG: dict[str, tuple[object, str]] = {
    "a list": ([], "result: got list, expected an object"),
    "nothing": (None, "result: got NoneType, expected an object"),
    "older": (changed(schema_version=0), "schema_version is 0, expected 1. Read it with the version of rubricrm"),
    "no version": ({"request": "x"}, "schema_version is None, expected 1"),
    "a key too many": (changed(more=1), "result: got the keys .*'more'"),
    "a key too few": ({k: v for k, v in EXAMPLE.to_dict().items() if k != "seed"}, "result: got the keys"),
    "text": (changed(text=1), "text: got 1, expected str"),
    "request": (changed(request=None), "request: got None, expected str"),
    "reason": (changed(finish_reason="end"), "finish_reason: got 'end', expected one of stop, length"),
    "usage": (changed(usage={"prompt_tokens": 1}), "usage: got the keys"),
    "count": (changed(usage={**EXAMPLE.to_dict()["usage"], "prompt_tokens": 1.5}), "usage.prompt_tokens: got 1.5"),
    "time": (changed(timings_ms={**EXAMPLE.to_dict()["timings_ms"], "total": "7"}), "timings_ms.total: got '7'"),
    "no time": (changed(timings_ms={**EXAMPLE.to_dict()["timings_ms"], "total": None}), "timings_ms.total: got None"),
    "seed": (changed(seed=True), "seed: got True, expected int"),
    "logprobs": (changed(logprobs={}), "logprobs: got {}, expected list"),
    "pairs": (changed(logprobs=[{"token_id": 1, "logprob": -1.0, "top": [[1]]}]), "expected pairs"),
    "score": (changed(logprobs=[{"token_id": 1, "logprob": None, "top": []}]), "logprob: got None, expected a number"),
    "overrules": (changed(grammar_overrules={"count": 1}), "grammar_overrules: got the keys"),
    "overruled": (
        changed(grammar_overrules={"count": 1.5, "probability": 0}),
        "grammar_overrules.count: got 1.5, expected int",
    ),
    "model": (changed(model={"name": 1}), "model.name: got 1, expected str"),
}


@pytest.mark.parametrize(("value", "words"), WRONG.values(), ids=WRONG)
def test_what_is_no_result_is_refused_with_its_place(value: object, words: str) -> None:
    with pytest.raises(ResultInvalid, match=words):
        RubricResult.from_dict(value)


def test_a_wrong_rubric_inside_is_told_as_that_of_a_rubric() -> None:
    with pytest.raises(RubricMalformed):
        RubricResult.from_dict(changed(rubric={}))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff", "[]"])
@pytest.mark.parametrize("kind", [TextResult, RubricResult])
def test_what_is_no_json_is_refused(kind: type[TextResult], text: str | bytes) -> None:
    with pytest.raises(ResultInvalid):
        kind.from_json(text)


def test_the_result_of_a_text_is_none_of_a_rubric() -> None:
    text = TextResult("a", "stop", Usage(1, 0, 1), Timings(0, 0, None, 0, 0), 0, None)
    assert TextResult.from_dict(text.to_dict()) == text
    with pytest.raises(ResultInvalid, match="result: got the keys"):
        RubricResult.from_dict(text.to_dict())
    assert math.isclose(TextResult.from_json(text.to_json()).timings_ms.total, 0)


def test_a_result_is_short_in_a_log() -> None:
    assert repr(EXAMPLE) == "RubricResult('Write a haiku.': 1 criteria, 0 issues, finish_reason='length', 12 tokens)"
    long = TextResult("word " * 500, "stop", Usage(1, 0, 500), Timings(0, 0, None, 0, 0), 0, None)
    assert len(repr(long)) < 150
    assert repr(long).endswith("…', finish_reason='stop', 500 tokens)")
