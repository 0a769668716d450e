"""The demo judge: its shipped bundle is a fresh export, its corpus is right, and the docs tell how often it is."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import evaluate_judge
import pytest
from evaluate_judge import is_whole
from judge_corpus import HELD_OUT_WORDS, WORD_LISTS, Case, cases, hold_out_words
from own_kernels import needs_kernels
from rubricrm import JudgeModel, Jury
from rubricrm.judge.judgment import parse_judgment
from rubricrm.judge.verdict import Verdict
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import JUDGE_PAIRWISE
from rubricrm.text_model import DEMO_JUDGE_BUNDLE
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from rules import Rule, parse
from shipped_bundle import assert_same_bundle

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models/demo_judge"
RESULTS = json.loads((ROOT / "benchmarks/results/demo-judge.json").read_text("utf-8"))
PREFIX = f"prefix.{JUDGE_PAIRWISE}.float16.safetensors"


@pytest.fixture
def without_held_out_words() -> Iterator[None]:
    """Takes them from the lists of words, for one test."""
    kept = [list(words_) for words_ in WORD_LISTS]
    hold_out_words()
    yield
    for words_, all_ in zip(WORD_LISTS, kept, strict=True):
        words_[:] = all_


@needs_kernels
def test_the_shipped_bundle_equals_a_fresh_export(tmp_path: Path) -> None:
    job = OnnxExport(str(MODEL / "checkpoint"), tmp_path / "bundle", prompt=JUDGE_PAIRWISE, temperature=0.0)
    fresh, shipped = export_onnx(job), Bundle.open(DEMO_JUDGE_BUNDLE, verify=True)
    assert_same_bundle(fresh, shipped, PREFIX)


def test_it_is_small() -> None:
    assert Bundle.open(DEMO_JUDGE_BUNDLE).num_bytes < 4e6
    assert (MODEL / "checkpoint/model.safetensors").stat().st_size < 4e6


def test_the_bundle_has_the_template_of_the_training() -> None:
    template = Bundle.open(DEMO_JUDGE_BUNDLE).manifest.prompt_of(JUDGE_PAIRWISE).template
    assert template == (MODEL / "judge_template.txt").read_text("utf-8")


def test_a_judgment_word_for_word() -> None:
    case = Case(
        "Describe a garden.",
        '1. The response must use the word "river". [Hard Rule]\n2. The response should be vivid. [Principle]',
        "The river runs through the garden.",
        "The old wall runs through the garden.",
    )
    with JudgeModel.demo() as judge:
        outcome = Jury(judge).compare(case.instruction, case.response_a, case.response_b, rubric=case.rubric)
    assert isinstance(outcome, Verdict)
    assert outcome.winner == "A"
    assert outcome.consistent
    assert outcome.votes[0].text == (
        "Identified Gatekeeper Criterion: Criterion 1\n\n"
        '**Response A:**\n- Criterion 1: "river" is there, before "runs", wanted: met.\n- Criterion 2: not checked.\n\n'
        '**Response B:**\n- Criterion 1: "river" is not there, wanted: not met.\n- Criterion 2: not checked.\n\n'
        "Response A meets 1, Response B meets 0.\nWinner: Response A"
    )
    assert outcome.votes[0].text == case.judgment()
    assert outcome.votes[1].text is not None
    assert is_whole(outcome.votes[1].text, len(case.criteria()))


@pytest.mark.usefixtures("without_held_out_words")
def test_every_judgment_of_the_corpus_is_a_vote_in_whole_form() -> None:
    for case in itertools.islice(cases(5), 300):
        text = case.judgment()
        met_a, met_b = case.num_met()
        judgment = parse_judgment(text, truncated=False)
        assert judgment.winner == ("A" if met_a >= met_b else "B"), text
        assert is_whole(text, len(case.criteria())), text
        assert not is_whole(text.replace("Winner: Response", "Winner:"), len(case.criteria()))


@pytest.mark.usefixtures("without_held_out_words")
def test_training_never_sees_the_words_that_are_held_out() -> None:
    seen = "\n".join(str(case).lower() for case in itertools.islice(cases(6), 2000))
    assert len(HELD_OUT_WORDS) > 50
    assert [word for word in HELD_OUT_WORDS if re.search(rf"\b{word}s?\b", seen)] == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('use the word "sea"', Rule("word", "sea")),
        ("not mention the term “sea”", Rule("no_word", "sea")),
        ("avoid the word 'sea'", Rule("no_word", "sea")),
        ('start with the phrase "Dear all"', Rule("begin", "Dear all")),
        ('end with "bye"', Rule("end", "bye")),
        ("end with a question", Rule("mark", "?")),
        ("have at most three sentences", Rule("sentences", relation="at most", number=3)),
        ("not exceed 60 words", Rule("words", relation="at most", number=60)),
        ("use exactly 3 lines", Rule("lines", relation="exactly", number=3)),
        ("list 4 bullet points", Rule("items", relation="exactly", number=4)),
        ("be a haiku", None),
        ("use between 2 and 4 lines", None),
    ],
)
def test_a_criterion_is_read_as_a_rule(text: str, rule: Rule | None) -> None:
    assert parse(f"The response must {text}.") == rule


@pytest.mark.parametrize(
    ("rule", "met", "missed"),
    [
        (Rule("word", "sea"), "The Sea!", "The seas, overseas."),
        (Rule("no_word", "sea"), "The season.", "By the sea"),
        (Rule("begin", "Dear all"), "Dear all, hello.", "Dear Al, hello."),
        (Rule("end", "good bye"), "So good bye!", "So good day."),
        (Rule("mark", "?"), "Who? You?", "Who? You."),
        (Rule("words", relation="exactly", number=2), "- Two words", "Just three words"),
        (Rule("sentences", relation="at most", number=2), "One. Two!", "One. Two? Three."),
        (Rule("lines", relation="at least", number=2), "a\n\nb", "a b"),
        (Rule("items", relation="fewer than", number=2), "Note:\n- a", "1. a\n2. b"),
    ],
)
def test_a_rule_is_met_or_missed(rule: Rule, met: str, missed: str) -> None:
    assert rule.is_met(met)
    assert not rule.is_met(missed)
    assert rule.justification(met).endswith(": met.")
    assert rule.justification(missed).endswith(": not met.")


def test_the_results_are_those_of_the_shipped_bundle() -> None:
    assert RESULTS["weights_sha256"] == Bundle.open(DEMO_JUDGE_BUNDLE).manifest.files["model.onnx.data"].sha256


@pytest.mark.parametrize("path", [ROOT / "docs/SERVING.md", MODEL / "checkpoint/README.md"])
def test_the_docs_tell_the_results(path: Path) -> None:
    assert evaluate_judge.table(RESULTS) in path.read_text("utf-8")


def test_a_case_written_by_hand_is_judged_as_the_results_say() -> None:
    with JudgeModel.demo() as judge:
        scores = evaluate_judge.evaluate(judge, list(evaluate_judge.by_hand()), 0)
    assert vars(scores["by hand"]) == RESULTS["kinds"]["by hand"]
