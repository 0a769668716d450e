"""Writes tests/cases/sampling and tests/cases/grammar: `python tests/references/choice_cases.py`."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import slow_choice
from rubricrm.generation.grammar import END, START, Grammar
from rubricrm.runtime.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "cases"
DEMO = ROOT / "sdk" / "python" / "rubricrm" / "demo_bundle"
STOP_IDS = (2043, 2045)
FLAT, WIDE = {"seed": 11, "count": 4000, "scale": 0.05}, {"seed": 5, "count": 3000, "scale": 12, "peaks": 9}
QWEN3 = {"seed": 1, "count": 151_669, "scale": 9, "peaks": 200}
NEAR_1 = math.nextafter(1, 0)

# By the name of its file, what a case is about, its row and its options.
SAMPLING: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "greedy": ("temperature 0 takes the highest logit, of equals the lowest id", [1, 3, -2, 3, 0], {}),
    "greedy_many": ("the highest of many, whatever the filters", WIDE, {"temperature": 0, "top_k": 3, "top_p": 0.1}),
    "draws": ("tokens are drawn by their weights, in the order of ids", [0, 1, 2, -1, 1.5], {"temperature": 1.2}),
    "all_equal": ("equal logits have equal weights", [-3] * 7, {"temperature": 0.7}),
    "single": ("one token is always chosen", [-1e30], {"temperature": 1}),
    "minus_infinity": ("minus infinity has no weight", [None, 0, None, 0.5], {"temperature": 1}),
    "far_apart": ("differences beyond float32 leave no weight", [3.4e38, -3.4e38, 3.4e38, 0], {"temperature": 0.001}),
    "nothing_left": (
        "a weight falls to 1 at 40 halvings, and to nothing after 41",
        [0, -27.7, -28.4, -28.5],
        {"temperature": 1},
    ),
    "coldest": ("the lowest temperature", [0, 0.001, 0.0005, -0.001], {"temperature": 0.001}),
    "hottest": ("the highest temperature", [0, 30, -30, 10], {"temperature": 100}),
    "half_a_step": (
        "a difference is rounded to the nearest step, halves up",
        [0, -0.00008461, -0.00008463, -0.00025385],
        {"temperature": 1},
    ),
    "top_k": ("top_k keeps the most probable", WIDE, {"temperature": 1, "top_k": 5}),
    "top_k_ties": (
        "of equal tokens top_k keeps those with the lower ids",
        [0, 1, 2, 1, 1],
        {"temperature": 1, "top_k": 3},
    ),
    "top_k_above": ("top_k above the number of tokens keeps all", [0, 1, 2], {"temperature": 1, "top_k": 9}),
    "top_k_equal_tail": (
        "tokens too improbable to differ are equal",
        [0, -27.71, -27.72, -27.6],
        {"temperature": 1, "top_k": 3},
    ),
    "top_p": ("top_p keeps the fewest that hold its part", WIDE, {"temperature": 1, "top_p": 0.9}),
    "top_p_ties": ("of equal tokens top_p keeps those with the lower ids", [0.5] * 8, {"temperature": 1, "top_p": 0.3}),
    "top_p_exactly": (
        "a running sum that has just reached the part is enough",
        [0.5] * 8,
        {"temperature": 1, "top_p": 0.25},
    ),
    "top_p_tiny": ("the most probable token always remains", [0, 1, 2, 1.5], {"temperature": 1, "top_p": 1e-300}),
    "top_p_near_1": ("top_p just below 1", FLAT, {"temperature": 1, "top_p": NEAR_1}),
    "top_p_flat": ("top_p on a flat distribution", FLAT, {"temperature": 1, "top_p": 0.95}),
    "min_p": ("min_p is relative to the most probable token", WIDE, {"temperature": 2, "min_p": 0.01}),
    "min_p_1": ("min_p 1 keeps the most probable tokens alone", [2, 1, 2, 0, 2], {"temperature": 1, "min_p": 1}),
    "min_p_tiny": ("the smallest min_p removes what has no weight", [0, -27, -40], {"temperature": 1, "min_p": 1e-300}),
    "all_filters": (
        "each filter applies to what the one before left",
        {**WIDE, "levels": 2},
        {"temperature": 3, "top_k": 300, "top_p": 0.9, "min_p": 0.02},
    ),
    "large_draws": ("a vocabulary of Qwen3's size", QWEN3, {"temperature": 1}),
    "large_filters": (
        "a vocabulary of Qwen3's size, filtered",
        QWEN3,
        {"temperature": 0.7, "top_k": 50, "top_p": 0.95},
    ),
    "large_flat": (
        "a flat vocabulary of Qwen3's size",
        {**QWEN3, "scale": 0.01, "peaks": 0},
        {"temperature": 1, "top_p": 0.5},
    ),
}
RUBRIC = (
    "1. The response must rhyme. [Hard Rule]\n2. The response's tone is warm. [Principle]\n"
    "3. The response is short. [Principle]"
)


def row_of(row: Any) -> list[float]:
    """The logits of a case."""
    if isinstance(row, dict):
        return slow_choice.made_row(row)
    return [-math.inf if value is None else slow_choice.float32(value) for value in row]


def sampling_case(about: str, row: Any, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """A case with what the reference says."""
    logits, case = row_of(row), {"about": about, "row": row, "options": options, "seed": seed}
    if options.get("temperature"):
        ids, kept = slow_choice.weights(logits, options)
        if len(ids) <= 100:
            case |= {"ids": ids, "weights": kept}
        tokens = [slow_choice.draw(ids, kept, seed, index) for index in range(20)]
    else:
        tokens = [slow_choice.choose(logits, options, seed, 0)]
    return case | {"tokens": tokens}


def logprobs_case() -> dict[str, Any]:
    """Log-probabilities, by the definition."""
    row = [1.0, 2.0, 1.0, -4.0, 2.0, 0.5]
    whole = math.log(math.fsum(map(math.exp, row)))
    order = sorted(range(6), key=lambda n: (-row[n], n))
    return {
        "about": "log-probabilities are those of the whole row; alternatives are listed by their logits, ties by id",
        "row": row,
        "options": {},
        "seed": 0,
        "tokens": [1],
        "logprobs": {"token_id": 3, "logprob": row[3] - whole, "top": [[n, row[n] - whole] for n in order[:5]]},
    }


def grammar_case(about: str, grammar: Grammar, tokens: list[int]) -> dict[str, Any]:
    """A walk; the form is read by Python's Grammar, which tests compare with a reference of bytes."""
    states = [START]
    for token in tokens:
        states.append(grammar.next(states[-1], token))
    left = [3, 12, 40, 10_000]
    return {
        "about": about,
        "tokens": tokens,
        "states": states,
        "shortest": [grammar.shortest(state) for state in states],
        "forced": [grammar.forced(state, 9) for state in states],
        "masks": {str(each): [mask_hash(grammar, state, each) for state in states] for each in left},
    }


def mask_hash(grammar: Grammar, state: int, tokens_left: int) -> str:
    """The SHA-256 of a mask's words."""
    mask = grammar.allowed(state, tokens_left)
    padded = np.zeros(-(-len(mask) // 32) * 32, np.bool_)
    padded[: len(mask)] = mask
    return hashlib.sha256(np.packbits(padded, bitorder="little").tobytes()).hexdigest()


def random_walk(grammar: Grammar, seed: int) -> list[int]:
    """Tokens of a text in the form: any that may follow, and the shortest way after a while."""
    rng, state, tokens = Random(seed), START, list[int]()
    while state != END:
        left = 10_000 if len(tokens) < 30 else grammar.shortest(state)
        allowed = np.flatnonzero(grammar.allowed(state, left))
        tokens.append(int(allowed[rng.randrange(len(allowed))]))
        state = grammar.next(state, tokens[-1])
    return tokens


def write(path: Path, case: dict[str, Any]) -> None:
    """Write a case, one key per line."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in case.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    """Write all files."""
    for number, (name, (about, row, options)) in enumerate(SAMPLING.items()):
        write(CASES / "sampling" / f"{name}.json", sampling_case(about, row, options, seed=number * 2**59 + number))
    write(CASES / "sampling" / "logprobs.json", logprobs_case())
    published = {"about": "the first numbers of a seed that is published with SplitMix64", "row": [0], "options": {}}
    numbers = [slow_choice.uniform(1234567, index) for index in range(5)]
    write(CASES / "sampling" / "uniform.json", {**published, "seed": 1234567, "tokens": [0], "uniform": numbers})
    tokenizer = Tokenizer.from_file(DEMO / "tokenizer.json")
    grammar = Grammar.load(DEMO / "grammar.npz", tokenizer.num_tokens, STOP_IDS)
    published_form = [*tokenizer.encode(RUBRIC), STOP_IDS[0]]
    write(CASES / "grammar" / "published_form.json", grammar_case("a rubric as published", grammar, published_form))
    for seed in range(3):
        walk = grammar_case("tokens that no tokenizer would choose", grammar, random_walk(grammar, seed))
        write(CASES / "grammar" / f"random_walk_{seed}.json", walk)


if __name__ == "__main__":
    main()
