"""What chooses tokens in librubricrm beside Python: the same tokens, masks, drafts and verdicts.

Needs choose_stream of a native build: `RUBRICRM_NATIVE_BUILD`, else build/native/release. All seeds are fixed.
"""

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from rubricrm.errors import BundleInvalid, OptionInvalid
from rubricrm.generation.completion import Completion
from rubricrm.generation.constraint import constrain
from rubricrm.generation.draft_plan import plan_drafts
from rubricrm.generation.drafting import Draft, Drafter
from rubricrm.generation.grammar import END, START, Grammar
from rubricrm.generation.item_number import ItemNumbers
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.phrase_table import PhraseTable
from rubricrm.generation.repetition import RepetitionDetector
from rubricrm.generation.sampling import choose, logprobs, weights
from rubricrm.generation.step_cost import StepCost
from rubricrm.runtime.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("RUBRICRM_NATIVE_BUILD", ROOT / "build" / "native" / "release"))
STREAM = BUILD / "tests" / "cpp" / "choose_stream"
DEMO = ROOT / "sdk" / "python" / "rubricrm" / "demo_bundle"
STOP_IDS = [2043, 2045]
SHA256 = "a" * 64
RUBRICS = (
    "1. The response must rhyme. [Hard Rule]\n2. The response's tone is warm. [Principle]\n"
    "3. The response is short. [Principle]",
    "1. The response must be a haiku. [Hard Rule]\n2. The response uses three lines. [Hard Rule]\n"
    + "\n".join(f"{n}. The response is {how}. [Principle]" for n, how in enumerate(["clear", "warm", "vivid"] * 3, 3)),
)

pytestmark = pytest.mark.skipif(not STREAM.exists(), reason=f"no {STREAM}: build the preset release")
Request = dict[str, Any]


def uniforms(seed: int, count: int) -> NDArray[np.uint64]:
    """The uniform numbers of a seed, as `sampling.uniform`."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return (z ^ z >> np.uint64(31)) >> np.uint64(11)


def made_row(made: dict[str, Any]) -> NDArray[np.float32]:
    """A row of logits from a few numbers: see tests/cases/sampling/README.md."""
    values = (uniforms(made["seed"], made["count"]) / 2.0**52 - 1) * made["scale"]
    if made.get("levels"):
        values = np.floor(values * made["levels"]) / made["levels"]
    row = values.astype(np.float32)
    for at in uniforms(made["seed"] + 1, made.get("peaks", 0)) % np.uint64(made["count"]):
        row[at] += np.float32(made["scale"])
    return row


class Native:
    """The process that answers requests."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.first: list[Request] = [
            {
                "do": "texts",
                "bytes": [spelling.hex() for spelling in tokenizer.spellings()],
                "special": sorted(tokenizer.special_ids),
                "numbers": [tokenizer.encode(str(number)) for number in range(100)],
            },
            {
                "do": "grammar",
                "path": str(DEMO / "grammar.npz"),
                "num_tokens": tokenizer.num_tokens,
                "stop_ids": STOP_IDS,
            },
        ]

    def ask(self, requests: Iterable[Request]) -> list[Any]:
        """What is answered to each request."""
        lines = "".join(json.dumps(request) + "\n" for request in [*self.first, *requests])
        answer = subprocess.run([STREAM], input=lines.encode(), stdout=-1, check=True).stdout
        return [json.loads(line) for line in answer.splitlines()][len(self.first) :]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(DEMO / "tokenizer.json")


@pytest.fixture(scope="module")
def native(tokenizer: Tokenizer) -> Native:
    return Native(tokenizer)


@pytest.fixture(scope="module")
def grammar(tokenizer: Tokenizer) -> Grammar:
    return Grammar.load(DEMO / "grammar.npz", tokenizer.num_tokens, STOP_IDS)


@pytest.fixture(scope="module")
def numbers(tokenizer: Tokenizer) -> ItemNumbers:
    return ItemNumbers(tokenizer)


def some_row(rng: random.Random, *, largest: int = 3000) -> dict[str, Any]:
    return {
        "seed": rng.randrange(2**63),
        "count": rng.choice((1, 2, 3, 17, 500, largest)),
        "scale": rng.choice((0.01, 1.0, 9.0, 30.0, 1e4, 1e38)),
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


def check(native: Native, requests: list[Request], expected: Callable[[Request], Any]) -> None:
    for request, found in zip(requests, native.ask(requests), strict=True):
        assert found == expected(request), request


def test_chosen_tokens(native: Native) -> None:
    rng = random.Random(1)
    requests = [
        {"do": "choose", "row": some_row(rng), "options": some_options(rng), "seed": rng.randrange(2**64), "index": n}
        for n in range(4000)
    ]
    check(
        native,
        requests,
        lambda r: choose(made_row(r["row"]), GenerationOptions(**r["options"]), r["seed"], r["index"]),
    )


def test_weights(native: Native) -> None:
    rng = random.Random(2)
    requests = [{"do": "weights", "row": some_row(rng), "options": some_options(rng)} for _ in range(400)]
    requests = [request for request in requests if request["options"]["temperature"]]
    requests.append({"do": "weights", "row": {**some_row(rng), "count": 151_669}, "options": {"temperature": 1.0}})
    check(
        native,
        requests,
        lambda r: [part.tolist() for part in weights(made_row(r["row"]), GenerationOptions(**r["options"]))],
    )


def test_logprobs(native: Native) -> None:
    rng = random.Random(3)
    rows = [some_row(rng) for _ in range(300)]
    requests = [{"do": "logprobs", "row": r, "token_id": r["count"] // 2, "num_top": rng.randrange(21)} for r in rows]
    for request, (logprob, top) in zip(requests, native.ask(requests), strict=True):
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
def test_what_is_said_of_options(native: Native, options: dict[str, Any]) -> None:
    try:
        GenerationOptions(**options)
        expected = None
    except OptionInvalid as error:
        expected = str(error)
    assert native.ask([{"do": "options", "options": options}]) == [expected]


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


def test_walks_and_masks(native: Native, grammar: Grammar) -> None:
    rng = random.Random(4)
    requests = [
        {"do": "walk", "tokens": tokens, "left": [rng.randrange(1, 60), 10_000]} for tokens in walks(grammar, rng, 60)
    ]
    check(native, requests, lambda r: walk(grammar, r["tokens"], r["left"]))


def test_whole_texts_in_the_form(native: Native, grammar: Grammar) -> None:
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
    for request, found in zip(requests, native.ask(requests), strict=True):
        expected = revise(grammar, request)
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


def circles(tokenizer: Tokenizer, rng: random.Random) -> list[int]:
    """A text that may go in circles: words again and again, with numbers that count or do not."""
    words = rng.choices(
        ("The response", " is", "-", "=", "\n", " 7", ". ", "é", "中", " ", "[", "12"), k=rng.randrange(1, 9)
    )
    step = rng.choice((0, 1, 1, 2))
    lines = [f"{n * step + 1}{''.join(words)}" for n in range(rng.randrange(2, 60))]
    tokens = tokenizer.encode("Begin. " + rng.choice(("", "\n", " and ")).join(lines))[:700]
    if rng.random() < 0.3:
        tokens[rng.randrange(len(tokens))] = rng.randrange(2048)
    return tokens


def test_repetition(native: Native, tokenizer: Tokenizer) -> None:
    rng = random.Random(6)

    def expected(request: Request) -> list[int]:
        detector = RepetitionDetector(tokenizer.token_bytes)
        return [at for at, token in enumerate(request["tokens"]) if detector.push(token)]

    requests = [{"do": "repetition", "tokens": circles(tokenizer, rng)} for _ in range(400)]
    assert sum(bool(expected(request)) for request in requests) > 50
    check(native, requests, expected)


def test_completions(native: Native, tokenizer: Tokenizer) -> None:
    rng = random.Random(7)
    stops = ("e", ". ", "response", "\n", "é", "中文", "re", "\ufffd")

    def expected(request: Request) -> list[Any]:
        completion = Completion(tokenizer, GenerationOptions(**request["options"]))
        pieces = [completion.push(token) for token in request["tokens"]]
        text, is_stopped = completion.finish(is_whole=request["is_whole"])
        return [[[piece, reason or ""] for piece, reason in pieces], text, is_stopped]

    requests = [
        {
            "do": "complete",
            "options": {"stop": rng.choices(stops, k=rng.randrange(4))},
            "is_whole": rng.random() < 0.5,
            "tokens": [rng.randrange(2048) for _ in range(40)] if rng.random() < 0.5 else circles(tokenizer, rng),
        }
        for _ in range(400)
    ]
    check(native, requests, expected)


def some_text(tokenizer: Tokenizer, rng: random.Random) -> list[int]:
    lines = rng.choice(RUBRICS).splitlines()
    return tokenizer.encode("\n".join(rng.choices(lines, k=rng.randrange(1, 12)))) + rng.choices(range(2048), k=3)


def learned(numbers: ItemNumbers, request: Request) -> PhraseTable:
    table = PhraseTable(numbers, request["most_entries"])
    for text in request["texts"]:
        table.learn(text)
    return table


def listed(table: PhraseTable) -> list[list[int]]:
    return [list(entry) for entry in table.entries.items()]


def test_phrases_and_their_files(native: Native, tokenizer: Tokenizer, numbers: ItemNumbers, tmp_path: Path) -> None:
    rng = random.Random(8)
    for turn in range(8):
        texts = [some_text(tokenizer, rng) for _ in range(rng.randrange(1, 30))]
        ours, theirs = tmp_path / f"{turn}.python", tmp_path / f"{turn}.native"
        request = {"do": "learn", "most_entries": rng.choice((60, 400, 65536)), "texts": texts, "sha256": SHA256}
        table = learned(numbers, request)
        table.save(ours, SHA256)
        (entries, warning), phrases = native.ask([{**request, "save": str(theirs)}, {"do": "phrases", "most": 20}])
        assert (entries, warning) == (listed(table), "")
        assert phrases == [[list(phrase.symbols), phrase.hits] for phrase in table.phrases(20)]
        again = {**request, "load": str(ours)}
        loaded = PhraseTable.load(theirs, numbers, SHA256, request["most_entries"])
        for text in texts:
            loaded.learn(text)
        assert native.ask([again]) == [[listed(loaded), ""]]


def drafts(request: Request, numbers: ItemNumbers, table: PhraseTable, grammar: Grammar) -> list[Any]:
    drafter = Drafter(request["prompt"], numbers, table if request["phrases"] else None)
    rules, state, found = grammar if request["constrain"] else None, START, []
    for at, token in enumerate(request["text"]):
        draft = drafter.propose(request["limit"], rules, state)
        found.append([draft.token_ids, draft.grades, draft.chances, drafter.credit.tokens])
        accepted = 0
        while draft.token_ids[accepted : accepted + 1] == request["text"][at + accepted : at + accepted + 1] != []:
            accepted += 1
        drafter.settle(draft, len(draft), accepted, 0.2 * len(draft))
        drafter.push(token)
        if rules is not None:
            state = rules.next(state, token)
    return found


def test_drafts(native: Native, tokenizer: Tokenizer, numbers: ItemNumbers, grammar: Grammar) -> None:
    rng = random.Random(9)
    texts = [tokenizer.encode(rubric) for rubric in RUBRICS]
    learn = {"do": "learn", "most_entries": 65536, "texts": texts + [some_text(tokenizer, rng) for _ in range(9)]}
    requests: list[Request] = [
        {
            "do": "draft",
            "prompt": some_text(tokenizer, rng) + tokenizer.encode("Write 3 rules: 1. rhyme 2. be short"),
            "text": rng.choice(texts),
            "limit": rng.randrange(16),
            "phrases": rng.random() < 0.7,
            "constrain": rng.random() < 0.5,
        }
        for _ in range(120)
    ]
    requests += [{**requests[0], "text": some_text(tokenizer, rng), "constrain": False} for _ in range(60)]
    table = learned(numbers, learn)
    found = native.ask([{**learn, "sha256": SHA256}, *requests])[1:]
    assert sum(len(step[0]) for each in found for step in each) > 5000
    for request, each in zip(requests, found, strict=True):
        assert each == drafts(request, numbers, table, grammar), request


def test_plans(native: Native) -> None:
    rng = random.Random(10)

    def some_plan() -> Request:
        seconds = sorted(rng.uniform(0.01, 0.02) for _ in range(5))
        drafted = [
            sorted((rng.random() for _ in range(rng.randrange(9))), reverse=True) for _ in range(rng.randrange(1, 9))
        ]
        return {
            "do": "plan",
            "cost": {str(rows): each for rows, each in zip((1, 2, 4, 6, 8), seconds, strict=True)},
            "chances": drafted,
            "credits": [rng.uniform(-0.5, 4) for _ in drafted],
            "rows_left": rng.randrange(30),
            "other_rows": rng.choice((0, 0, 5, 64)),
        }

    def expected(request: Request) -> list[Any]:
        made = [Draft([0] * len(chances), [0] * len(chances), chances) for chances in request["chances"]]
        cost = StepCost({int(rows): seconds for rows, seconds in request["cost"].items()})
        plan = plan_drafts(made, request["credits"], cost, request["rows_left"], request["other_rows"])
        return [list(plan.lengths), list(plan.prices)]

    check(native, [some_plan() for _ in range(1000)], expected)


def test_a_lying_file_is_refused_in_the_same_words(tmp_path: Path, native: Native, grammar: Grammar) -> None:
    path = tmp_path / "grammar.npz"
    arrays = {name: getattr(grammar.tables, name) for name in ("token_class", "steps", "row", "shortest", "forced")}
    for name, value in (("shortest", 7), ("forced", 2048), ("row", 9), ("steps", 3)):
        lying = {**arrays, name: arrays[name].copy()}
        cast("Any", lying[name])[1] = value
        np.savez(path, **lying)
        with pytest.raises(BundleInvalid) as refused:
            Grammar.load(path, grammar.num_tokens, STOP_IDS)
        assert native.ask([{**native.first[1], "do": "refuse", "path": str(path)}]) == [str(refused.value)]
