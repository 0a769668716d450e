"""What chooses tokens in librubricrm beside Python: the same tokens, masks and refusals.

Needs choose_stream of a native build: `RUBRICRM_NATIVE_BUILD`, else build/native/release. All seeds are fixed.
"""

import random
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from native_choice import STOP_IDS, STREAM, Request, ask, check, grammar, made_row, open_requests
from rubricrm.errors import BundleInvalid, OptionInvalid
from rubricrm.generation.constraint import constrain
from rubricrm.generation.grammar import END, START, Grammar
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sampling import choose, logprobs, weights

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not STREAM.exists(), reason=f"no {STREAM}: build the preset release"),
]


def some_row(rng: random.Random, *, largest: int = 3000) -> dict[str, Any]:
    return {
        "seed": rng.randrange(2**63),
        "count": rng.choice((1, 2, 3, 17, 500, largest)),
        "scale": rng.choice((0.01, 1.0, 9.0, 30.0, 1e4, 1e36)),
        "levels": rng.choice((0, 0, 1, 4)),
        "peaks": rng.choice((0, 0, 3, 40)),
    }


def some_options(rng: random.Random) -> dict[str, Any]:
    return {
        "temperature": rng.choice((0.0, 0.001, 0.3, 0.7, 1.0, 1.3, 2.0, 100.0, rng.uniform(0.001, 5))),
        "top_k": rng.choice((0, 0, 1, 2, 40, 10**6, rng.randrange(1, 3000))),
        "top_p": rng.choice((1.0, 1.0, 0.95, 0.5, 1e-9, 0.9999999999999999, rng.uniform(1e-3, 1))),
        "min_p": rng.choice((0.0, 0.0, 0.05, 1.0, 1e-300, rng.uniform(0, 1))),
    }


def test_chosen_tokens() -> None:
    rng = random.Random(1)
    requests = [
        {"do": "choose", "row": some_row(rng), "options": some_options(rng), "seed": rng.randrange(2**64), "index": n}
        for n in range(4000)
    ]
    check(
        requests,
        lambda r: choose(made_row(r["row"]), GenerationOptions(**r["options"]), r["seed"], r["index"]),
    )


def test_weights() -> None:
    rng = random.Random(2)
    requests = [{"do": "weights", "row": some_row(rng), "options": some_options(rng)} for _ in range(400)]
    requests = [request for request in requests if request["options"]["temperature"]]
    requests.append({"do": "weights", "row": {**some_row(rng), "count": 151_669}, "options": {"temperature": 1.0}})
    check(
        requests,
        lambda r: [part.tolist() for part in weights(made_row(r["row"]), GenerationOptions(**r["options"]))],
    )


def test_logprobs() -> None:
    rng = random.Random(3)
    rows = [some_row(rng) for _ in range(300)]
    requests = [{"do": "logprobs", "row": r, "token_id": r["count"] // 2, "num_top": rng.randrange(21)} for r in rows]
    for request, (logprob, top) in zip(requests, ask(requests), strict=True):
        expected = logprobs(made_row(request["row"]), request["token_id"], request["num_top"])
        assert [token for token, _ in top] == [token for token, _ in expected.top]
        scores = [expected.logprob, *(score for _, score in expected.top)]
        np.testing.assert_allclose([logprob, *(score for _, score in top)], scores, rtol=1e-14, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0001},
        {"temperature": -1e-5},
        {"temperature": 1e16},
        {"temperature": 123456789.5},
        {"top_p": 0.0},
        {"top_p": 1.0000000000000002},
        {"min_p": -0.5},
        {"top_k": -1},
        {"max_new_tokens": 0},
        {"logprobs": 21},
        {"timeout_s": -1.5},
        {"stop": [""]},
        {"temperature": 0.5, "stop": ["a"]},
    ],
    ids=str,
)
def test_what_is_said_of_options(options: dict[str, Any]) -> None:
    try:
        GenerationOptions(**options)
        expected = None
    except OptionInvalid as error:
        expected = str(error)
    assert ask([{"do": "options", "options": options}]) == [expected]


def walks(grammar: Grammar, rng: random.Random, count: int) -> list[list[int]]:
    """Tokens that follow each other in the form, now and then one that cannot."""
    found = []
    for _ in range(count):
        state, tokens = START, list[int]()
        while state > END and len(tokens) < 60:
            home = rng.random() < 0.3
            allowed = np.flatnonzero(grammar.allowed(state, grammar.shortest(state) if home else 10_000))
            token = int(rng.choice(allowed)) if rng.random() < 0.99 else rng.randrange(grammar.num_tokens)
            tokens.append(token)
            state = grammar.next(state, token)
        found.append(tokens)
    return found


def walk(grammar: Grammar, tokens: list[int], left: list[int]) -> list[Any]:
    state, found = START, []
    for token in tokens:
        for each in left:
            mask = np.zeros(-(-grammar.num_tokens // 32) * 32, np.bool_)
            mask[: grammar.num_tokens] = grammar.allowed(state, each)
            mask_hash = 0
            for word in np.packbits(mask, bitorder="little").view("<u4").tolist():
                mask_hash = (mask_hash * 31 + word) % 2**64
            found.append(
                [
                    state,
                    grammar.shortest(state),
                    mask_hash,
                    grammar.is_allowed(state, token, each),
                    grammar.forced(state, 9),
                    grammar.forced(state, 3, past_ends=True),
                ]
            )
        state = grammar.next(state, token)
        if state <= END:
            break
    return found


def test_walks_and_masks() -> None:
    rng = random.Random(4)
    requests = [
        {"do": "walk", "tokens": tokens, "left": [rng.randrange(1, 60), 10_000]} for tokens in walks(grammar(), rng, 60)
    ]
    check(requests, lambda r: walk(grammar(), r["tokens"], r["left"]))


def test_whole_texts_in_the_form() -> None:
    rng = random.Random(5)
    requests = [
        {
            "do": "revise",
            "options": some_options(rng),
            "seed": rng.randrange(2**62),
            "scale": rng.choice((0.5, 4.0, 20.0)),
            "peaks": rng.choice((0, 30)),
            "tokens_left": rng.randrange(1, 90),
        }
        for _ in range(300)
    ]
    num_overruled = 0
    for request, found in zip(requests, ask(requests), strict=True):
        expected = revise(grammar(), request)
        assert (found is None) == (expected is None)
        if found is None or expected is None:
            continue
        assert found[:2] == expected[:2], request
        assert found[2] == pytest.approx(expected[2], abs=1e-5 * (1 + expected[1]))
        num_overruled += expected[1]
    assert num_overruled > 1000


def revise(grammar: Grammar, request: Request) -> list[Any] | None:
    left, options, tokens = request["tokens_left"], GenerationOptions(**request["options"]), list[int]()
    constraint = constrain(grammar, left)
    if constraint is None:
        return None
    while left and constraint.state != END:
        seed, index = request["seed"], len(tokens)
        row = made_row({**request, "seed": seed + index, "count": grammar.num_tokens})
        token = choose(row, options, seed, index)
        tokens.append(constraint.revise(token, row, options, seed=seed, index=index, tokens_left=left))
        left -= 1
    return [tokens, constraint.overrules.count, constraint.overrules.probability]


def test_a_lying_file_is_refused_in_the_same_words(tmp_path: Path) -> None:
    path, sound = tmp_path / "grammar.npz", grammar()
    arrays = {name: getattr(sound.tables, name) for name in ("token_class", "steps", "row", "shortest", "forced")}
    for name, value in (("shortest", 7), ("forced", 2048), ("row", 9), ("steps", 3)):
        lying = {**arrays, name: arrays[name].copy()}
        cast("Any", lying[name])[1] = value
        np.savez(path, **lying)
        with pytest.raises(BundleInvalid) as refused:
            Grammar.load(path, sound.num_tokens, STOP_IDS)
        assert ask([{**open_requests()[1], "do": "refuse", "path": str(path)}]) == [str(refused.value)]
