"""What the demo model was trained on: pairs in the form of a rubric, none of them for a request held out."""

import itertools
import json
import random
import re
from pathlib import Path

import corpus
import pytest
import short_requests
from haste import mistyped, with_typo
from hypothesis import given
from hypothesis import strategies as st
from phrases import Filler
from templates import HERE as DEMO
from templates import lines

ROOT = Path(__file__).parents[1]
OUTPUTS = ROOT / "benchmarks/results/short-requests-demo.jsonl"
REQUESTS = ROOT / "../shared/data/requests.jsonl"
ITEM = re.compile(r"(\d+)\. The response .+ \[(Hard Rule|Principle)\]")


@pytest.fixture(scope="module")
def drawn() -> list[corpus.Pair]:
    return list(itertools.islice(corpus.pairs(31), 20_000))


def test_no_pair_holds_a_request_that_is_held_out(drawn: list[corpus.Pair]) -> None:
    assert len(corpus.HELD_OUT) == len(lines(DEMO / "held_out.txt")) == 100
    assert corpus.HELD_OUT.isdisjoint(corpus.key(pair.request) for pair in drawn)
    assert corpus.HELD_OUT & {corpus.key(request) for request in unfiltered(20_000)}, "nothing was there to leave out"


def unfiltered(number: int) -> list[str]:
    rng = random.Random(31)
    found = (corpus.short_pair(rng) for _ in range(number))
    return [pair.request for pair in found if pair is not None]


@pytest.mark.parametrize("text", ["write a poem", "WRITE A POEM!!", " Write a poem. ", "please write me a poem", "Hi!"])
def test_another_case_and_other_marks_are_the_same_request(text: str) -> None:
    assert corpus.key(text) in corpus.HELD_OUT


def test_a_request_without_words_is_its_own_key() -> None:
    assert corpus.key("?!") == "?!"
    assert corpus.key("🐶") != corpus.key("🐱")


@pytest.mark.skipif(not REQUESTS.exists(), reason=f"{REQUESTS.name} does not lie beside the checkout")
def test_no_pair_holds_a_request_of_the_development_set(drawn: list[corpus.Pair]) -> None:
    kept_out = {corpus.key(json.loads(line)["request"]) for line in REQUESTS.read_text("utf-8").splitlines()}
    assert kept_out.isdisjoint(corpus.key(pair.request) for pair in drawn)


def test_every_rubric_is_well_formed(drawn: list[corpus.Pair]) -> None:
    for pair in drawn:
        for number, line in enumerate(pair.rubric.split("\n"), 1):
            match = ITEM.fullmatch(line)
            assert match is not None, line
            assert int(match[1]) == number


def test_every_short_template_can_be_filled() -> None:
    f = Filler(random.Random(5))
    for family, template in corpus.SHORT:
        assert f.fill(template.text).strip()
        assert corpus.finished(f.fill(template.text), (), family) is not None


def test_many_short_requests_differ() -> None:
    requests = unfiltered(5_000)
    assert len({corpus.key(request) for request in requests}) > 3_500
    assert sum(len(request.split()) <= 3 for request in requests) > 1_000


@given(st.text(alphabet="abcdefghij", min_size=4), st.integers())
def test_a_typo_changes_at_most_two_letters(word: str, seed: int) -> None:
    found = mistyped(word, random.Random(seed))
    assert abs(len(found) - len(word)) <= 1
    assert found[0] == word[0]


@given(st.integers())
def test_words_that_a_rule_repeats_get_no_typo(seed: int) -> None:
    assert with_typo("write an essay", "be an essay", random.Random(seed)).endswith(" an essay")


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        ("1. The response must rhyme. [Hard Rule]", "length", "finish reason length"),
        ("1. The response must rhyme. [Hard Rule]\n2. The response must rhyme. [Hard Rule]", "stop", "a criterion"),
        ("1. The response must be exactly exactly exactly exactly. [Hard Rule]", "stop", "'exactly'"),
        ("1. The response must be a list of a list of a list of nouns. [Hard Rule]", "stop", "'a list of'"),
        ("", "stop", "no criterion"),
    ],
)
def test_a_collapse_is_seen(text: str, finish_reason: str, reason: str) -> None:
    assert reason in (short_requests.collapse(text, finish_reason) or "")


def test_an_ordinary_rubric_has_not_collapsed() -> None:
    text = (
        "1. The response must use no, no and no. [Hard Rule]\n2. The response should be very, very clear. [Principle]"
    )
    assert short_requests.collapse(text, "stop") is None


def test_the_outputs_kept_are_those_of_the_requests_held_out() -> None:
    rows = [json.loads(line) for line in OUTPUTS.read_text("utf-8").splitlines()]
    assert [row["request"] for row in rows] == lines(DEMO / "held_out.txt")
    for row in rows:
        assert short_requests.collapse(row["text"], row["finish_reason"]) is None, row["request"]
