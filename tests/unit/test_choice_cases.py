"""The cases of sampling and grammars that every language runs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import slow_choice
from choice_cases import DEMO, STOP_IDS, mask_hash, row_of
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.generation.grammar import Grammar
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sampling import choose, logprobs, uniform, weights

CASES = Path(__file__).resolve().parents[1] / "cases"


@pytest.mark.parametrize("path", sorted((CASES / "sampling").glob("*.json")), ids=lambda path: path.stem)
def test_sampling(path: Path) -> None:
    case = json.loads(path.read_text())
    row = np.array(row_of(case["row"]), np.float32)
    options = GenerationOptions(**case["options"])
    assert [choose(row, options, case["seed"], n) for n in range(len(case["tokens"]))] == case["tokens"]
    if "ids" in case:
        ids, kept = weights(row, options)
        assert (ids.tolist(), kept.tolist()) == (case["ids"], case["weights"])
    if "uniform" in case:
        assert [uniform(case["seed"], n) for n in range(len(case["uniform"]))] == case["uniform"]
    if expected := case.get("logprobs"):
        found = logprobs(row, expected["token_id"], len(expected["top"]))
        assert found.logprob == pytest.approx(expected["logprob"], abs=1e-12)
        assert [token for token, _ in found.top] == [token for token, _ in expected["top"]]
        assert [score for _, score in found.top] == pytest.approx([score for _, score in expected["top"]], abs=1e-12)


@settings(max_examples=300)
@given(
    row=st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=9),
    temperature=st.floats(0.001, 100),
    top_k=st.integers(0, 9),
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
)
def test_sampling_is_the_reference(
    row: list[float], temperature: float, top_k: int, top_p: float, min_p: float, seed: int
) -> None:
    values = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    options = GenerationOptions(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    found = weights(np.array(row, np.float32), options)
    assert (found[0].tolist(), found[1].tolist()) == slow_choice.weights(row, values)
    assert choose(np.array(row, np.float32), options, seed, 7) == slow_choice.choose(row, values, seed, 7)


@pytest.mark.parametrize("path", sorted((CASES / "grammar").glob("*.json")), ids=lambda path: path.stem)
def test_grammar(path: Path) -> None:
    case = json.loads(path.read_text())
    num_tokens = json.loads((DEMO / "rubricrm.json").read_text())["tokenizer"]["num_tokens"]
    grammar = Grammar.load(DEMO / "grammar.npz", num_tokens, STOP_IDS)
    states = case["states"]
    assert [grammar.next(*step) for step in zip(states, case["tokens"], strict=False)] == states[1:]
    assert [grammar.shortest(state) for state in states] == case["shortest"]
    assert [grammar.forced(state, 9) for state in states] == case["forced"]
    for left, hashes in case["masks"].items():
        assert [mask_hash(grammar, state, int(left)) for state in states] == hashes


def test_the_row_of_a_case_may_hold_minus_infinity() -> None:
    assert row_of([None, 1]) == [-math.inf, 1]
