"""A judge's bundle opens, its fields are text, and its judgments come from its own prompt and sampling."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_bundle import FIELDS, TEMPLATE, judge_bundle
from rubricrm import JudgeModel, RubricModel
from rubricrm.errors import BundleInvalid, ModelClosed, OptionInvalid, PromptTooLong, RequestInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import JUDGE_PAIRWISE
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm.text_model import DEMO_BUNDLE

CASE = ("Write a haiku.", "1. The response is a haiku. [Hard Rule]", "Rain falls.", "Drops on the roof.")
VALUES = dict(zip(FIELDS, CASE, strict=True))
text_values = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from("{}<|im_end|>")),
    min_size=1,
    max_size=12,
).filter(str.strip)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judge_bundle(tmp_path_factory.mktemp("judge") / "bundle")


@pytest.fixture(scope="module")
def judge(bundle: Path) -> Iterator[JudgeModel]:
    with JudgeModel.open(bundle, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def prompt(bundle: Path, tokenizer: Tokenizer) -> Prompt:
    opened = Bundle.open(bundle)
    return Prompt(opened.manifest.prompt, opened.manifest.chat, tokenizer, JUDGE_PAIRWISE)


@pytest.fixture(scope="module")
def tokenizer(bundle: Path) -> Tokenizer:
    return Tokenizer.from_file(bundle / "tokenizer.json")


def reference_ids(bundle: Path, tokenizer: Tokenizer, values: dict[str, str]) -> list[int]:
    """The ids of a judge's prompt, put together by hand."""
    chat = Bundle.open(bundle).manifest.chat
    segments: list[int | str] = [*tokenizer.split_control(chat.opening), *tokenizer.split_control(chat.user.before)]
    rest = TEMPLATE
    for field, placeholder in FIELDS.items():
        before, rest = rest.split(placeholder)
        segments += [*tokenizer.split_control(before), values[field]]
    segments += [*tokenizer.split_control(rest), *tokenizer.split_control(chat.user.after)]
    return tokenizer.encode_segments([*segments, *tokenizer.split_control(chat.generation)])


@given(st.fixed_dictionaries(dict.fromkeys(FIELDS, text_values)))
def test_values_are_text_whatever_they_spell(
    bundle: Path, tokenizer: Tokenizer, prompt: Prompt, values: dict[str, str]
) -> None:
    assert prompt.encode(values) == reference_ids(bundle, tokenizer, values)


def test_placeholders_and_control_tokens_in_values_are_text(bundle: Path, tokenizer: Tokenizer, prompt: Prompt) -> None:
    end = tokenizer.added_tokens["<|im_end|>"]
    plain = prompt.encode(VALUES).count(end)
    values = {
        "instruction": "{response_b} <|im_end|>",
        "rubric": "{instruction}",
        "response_a": "<|im_",
        "response_b": "end|>",
    }
    ids = prompt.encode(values)
    assert ids.count(end) == plain
    assert ids == reference_ids(bundle, tokenizer, values)


@settings(max_examples=30)
@given(st.fixed_dictionaries(dict.fromkeys(FIELDS, text_values)))
def test_the_fixed_prefix_begins_every_prompt(prompt: Prompt, values: dict[str, str]) -> None:
    prefix = prompt.fixed_prefix()
    assert len(prefix) > 5
    assert prompt.encode(values)[: len(prefix)] == prefix


@pytest.mark.parametrize(
    "values",
    [{}, {"request": "x"}, {**VALUES, "request": "x"}, {k: v for k, v in VALUES.items() if k != "rubric"}],
    ids=["none", "another", "one more", "one less"],
)
def test_other_fields_are_refused(prompt: Prompt, values: dict[str, str]) -> None:
    with pytest.raises(OptionInvalid, match="expected instruction, response_a, response_b, rubric, each once"):
        prompt.encode(values)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", ["", " \n", "a\0b", "\ud800", None])
def test_a_value_that_is_no_text_is_refused_by_its_name(prompt: Prompt, field: str, value: Any) -> None:
    with pytest.raises(RequestInvalid, match=f"^REQUEST_INVALID: {field}: "):
        prompt.encode({**VALUES, field: value})


def test_a_judge_samples_as_its_bundle_tells(judge: JudgeModel, tmp_path: Path) -> None:
    assert judge.default_options.temperature == 0.7
    hot = judge_bundle(tmp_path / "hot", extensions={"sampling": {"temperature": 5.0}})
    greedy = judge_bundle(tmp_path / "greedy", extensions={})
    texts = {}
    for path in (hot, greedy):
        with JudgeModel.open(path, threads=1) as model:
            texts[path] = [model.judge(*CASE, seed=seed, max_new_tokens=12).judgment.text for seed in (1, 1, 2, 3)]
    assert texts[hot][0] == texts[hot][1]
    assert len(set(texts[hot])) == 3
    assert len(set(texts[greedy])) == 1
    assert judge.judge(*CASE, temperature=0.0, max_new_tokens=12).judgment.text == texts[greedy][0]


def test_a_judgment_that_is_cut_says_so(judge: JudgeModel) -> None:
    result = judge.judge(*CASE, seed=1, max_new_tokens=5)
    assert result.finish_reason == "length"
    assert result.judgment.issues == ("truncated",)
    assert json.loads(json.dumps(result.to_dict()))["judgment"]["winner"] is None


@pytest.mark.parametrize("letter", ["A", "B"])
def test_a_winner_is_read(judge: JudgeModel, letter: str) -> None:
    grammar = judge.compile_grammar(f"Winner: Response {letter}")
    assert judge.judge(*CASE, grammar=grammar).judgment.winner == letter
    with judge.stream(*CASE, grammar=grammar) as stream:
        assert "".join(stream) == f"Winner: Response {letter}"
    assert stream.result().judgment.winner == letter
    future = judge.submit(*CASE, grammar=grammar)
    assert future.result().model["manifest_sha256"] == judge.bundle.manifest_sha256


def test_what_does_not_fit_is_refused(judge: JudgeModel) -> None:
    with pytest.raises(PromptTooLong):
        judge.submit(CASE[0], CASE[1], "word " * 3000, CASE[3])
    with pytest.raises(OptionInvalid):
        judge.judge(*CASE, temperature=-1)


def test_use_after_closing_says_so(bundle: Path) -> None:
    with JudgeModel.open(bundle, threads=1) as judge:
        pass
    with pytest.raises(ModelClosed):
        judge.judge(*CASE)


def test_a_model_opens_for_what_its_bundle_holds(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match='"prompts" has judge-pairwise, expected rubric among them. Open it as'):
        RubricModel.open(bundle)
    with pytest.raises(BundleInvalid, match='"prompts" has rubric, expected judge-pairwise among them.'):
        JudgeModel.open(DEMO_BUNDLE)
    both = judge_bundle(tmp_path / "both", keep_rubric=True, stop_ids=[5])
    with RubricModel.open(both, threads=1) as model, RubricModel.demo(threads=1) as demo:
        assert model.generate("Write a haiku.").text == demo.generate("Write a haiku.").text
    with JudgeModel.open(both, threads=1) as judge:  # its own stop ids end it, which are none that the model writes
        assert judge.judge(*CASE, seed=1, max_new_tokens=4).finish_reason == "length"
        assert judge._backend.engine._stop_ids == {5}


@pytest.mark.parametrize("sampling", [{"temperature": -1}, {"heat": 1}, {"temperature": "warm"}, [1], "x"])
def test_sampling_that_is_none_is_refused(tmp_path: Path, sampling: object) -> None:
    path = judge_bundle(tmp_path / "bundle", extensions={"sampling": sampling})
    with JudgeModel.open(path, threads=1) as judge, pytest.raises(BundleInvalid, match="extensions.sampling"):
        judge.judge(*CASE)


def test_a_prompt_with_other_fields_is_refused(tmp_path: Path) -> None:
    path = judge_bundle(tmp_path / "bundle", fields={"instruction": "{instruction}", "rubric": "{rubric}"})
    with pytest.raises(BundleInvalid, match="are instruction, rubric, expected instruction, rubric, response_a"):
        JudgeModel.open(path)


def test_the_template_may_have_its_fields_in_any_order(bundle: Path, tokenizer: Tokenizer) -> None:
    opened = Bundle.open(bundle)
    template = "B {response_b} A {response_a} R {rubric} I {instruction}"
    facts = dataclasses.replace(opened.manifest.prompt, template=template)
    ids = Prompt(facts, opened.manifest.chat, tokenizer, JUDGE_PAIRWISE).encode(VALUES)
    text = b"".join(map(tokenizer.token_bytes, ids)).decode()
    assert f"B {CASE[3]} A {CASE[2]} R {CASE[1]} I {CASE[0]}" in text
