"""What ends and drafts texts in librubricrm beside Python: the same verdicts, pieces, drafts, plans and files.

Needs choose_stream of a native build: `RUBRICRM_NATIVE_BUILD`, else build/native/release. All seeds are fixed.
"""

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from native_choice import STREAM, Request, ask, check, grammar, tokenizer
from rubricrm.generation.completion import Completion
from rubricrm.generation.draft_plan import plan_drafts
from rubricrm.generation.drafting import Draft, Drafter
from rubricrm.generation.grammar import START
from rubricrm.generation.item_number import ItemNumbers
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.phrase_table import PhraseTable
from rubricrm.generation.repetition import RepetitionDetector
from rubricrm.generation.step_cost import StepCost

RUBRICS = (
    "1. The response must rhyme. [Hard Rule]\n2. The response's tone is warm. [Principle]\n"
    "3. The response is short. [Principle]",
    "1. The response must be a haiku. [Hard Rule]\n2. The response uses three lines. [Hard Rule]\n"
    + "\n".join(f"{n}. The response is {how}. [Principle]" for n, how in enumerate(["clear", "warm", "vivid"] * 3, 3)),
)

SHA256 = "a" * 64
pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not STREAM.exists(), reason=f"no {STREAM}: build the preset release"),
]


@cache
def numbers() -> ItemNumbers:
    return ItemNumbers(tokenizer())


def circles(rng: random.Random) -> list[int]:
    """A text that may go in circles: words again and again, with numbers that count or do not."""
    words = rng.choices(
        ("The response", " is", "-", "=", "\n", " 7", ". ", "é", "中", " ", "[", "12"), k=rng.randrange(1, 9)
    )
    step = rng.choice((0, 1, 1, 2))
    lines = [f"{n * step + 1}{''.join(words)}" for n in range(rng.randrange(2, 60))]
    tokens = tokenizer().encode("Begin. " + rng.choice(("", "\n", " and ")).join(lines))[:700]
    if rng.random() < 0.3:
        tokens[rng.randrange(len(tokens))] = rng.randrange(2048)
    return tokens


def test_repetition() -> None:
    rng = random.Random(6)

    def expected(request: Request) -> list[int]:
        detector = RepetitionDetector(tokenizer().token_bytes)
        return [at for at, token in enumerate(request["tokens"]) if detector.push(token)]

    requests = [{"do": "repetition", "tokens": circles(rng)} for _ in range(400)]
    assert sum(bool(expected(request)) for request in requests) > 50
    check(requests, expected)


def test_completions() -> None:
    rng = random.Random(7)
    stops = ("e", ". ", "response", "\n", "é", "中文", "re", "\ufffd")

    def expected(request: Request) -> list[Any]:
        completion = Completion(tokenizer(), GenerationOptions(**request["options"]))
        pieces = [completion.push(token) for token in request["tokens"]]
        text, is_stopped = completion.finish(is_whole=request["is_whole"])
        return [[[piece, reason or ""] for piece, reason in pieces], text, is_stopped]

    requests = [
        {
            "do": "complete",
            "options": {"stop": rng.choices(stops, k=rng.randrange(4))},
            "is_whole": rng.random() < 0.5,
            "tokens": [rng.randrange(2048) for _ in range(40)] if rng.random() < 0.5 else circles(rng),
        }
        for _ in range(400)
    ]
    check(requests, expected)


def some_text(rng: random.Random) -> list[int]:
    lines = rng.choice(RUBRICS).splitlines()
    return tokenizer().encode("\n".join(rng.choices(lines, k=rng.randrange(1, 12)))) + rng.choices(range(2048), k=3)


def learned(request: Request) -> PhraseTable:
    table = PhraseTable(numbers(), request["most_entries"])
    for text in request["texts"]:
        table.learn(text)
    return table


def listed(table: PhraseTable) -> list[list[int]]:
    return [list(entry) for entry in table.entries.items()]


def test_phrases_and_their_files(tmp_path: Path) -> None:
    rng = random.Random(8)
    for turn in range(8):
        texts = [some_text(rng) for _ in range(rng.randrange(1, 30))]
        ours, theirs = tmp_path / f"{turn}.python", tmp_path / f"{turn}.native"
        request = {"do": "learn", "most_entries": rng.choice((60, 400, 65536)), "texts": texts, "sha256": SHA256}
        table = learned(request)
        table.save(ours, SHA256)
        ((entries, warning),) = ask([{**request, "save": str(theirs)}])
        assert (entries, warning) == (listed(table), "")
        again = {**request, "load": str(ours)}
        loaded = PhraseTable.load(theirs, numbers(), SHA256, request["most_entries"])
        for text in texts:
            loaded.learn(text)
        assert ask([again]) == [[listed(loaded), ""]]


def drafts(request: Request, table: PhraseTable) -> list[Any]:
    drafter = Drafter(request["prompt"], numbers(), table if request["phrases"] else None)
    rules, state, found = grammar() if request["constrain"] else None, START, []
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


def test_drafts() -> None:
    rng = random.Random(9)
    texts = [tokenizer().encode(rubric) for rubric in RUBRICS]
    learn = {"do": "learn", "most_entries": 65536, "texts": texts + [some_text(rng) for _ in range(9)]}
    requests: list[Request] = [
        {
            "do": "draft",
            "prompt": some_text(rng) + tokenizer().encode("Write 3 rules: 1. rhyme 2. be short"),
            "text": rng.choice(texts),
            "limit": rng.randrange(16),
            "phrases": rng.random() < 0.7,
            "constrain": rng.random() < 0.5,
        }
        for _ in range(120)
    ]
    requests += [{**requests[0], "text": some_text(rng), "constrain": False} for _ in range(60)]
    table = learned(learn)
    found = ask([{**learn, "sha256": SHA256}, *requests])[1:]
    assert sum(len(step[0]) for each in found for step in each) > 5000
    for request, each in zip(requests, found, strict=True):
        assert each == drafts(request, table), request


def test_plans() -> None:
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

    check([some_plan() for _ in range(1000)], expected)
