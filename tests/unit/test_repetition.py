"""Texts that go in circles are told from texts that only look alike."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.generation.repetition import MAX_PERIOD, RepetitionDetector
from rubricrm.model import DEMO_BUNDLE
from rubricrm.runtime.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
REAL_RUBRICS = ROOT.parent / "shared/data/real_rubrics.jsonl"
QWEN3_TOKENIZER = ROOT.parent / "shared/qwen3-tokenizer/tokenizer.json"

Read = Callable[[str], int | None]


def bytes_of(text: str) -> list[int]:
    return list(text.encode())


def first_circle(tokens: list[int], token_bytes: Callable[[int], bytes]) -> int | None:
    """How many tokens were read when the text was found to go in circles."""
    detector = RepetitionDetector(token_bytes)
    return next((count for count, token in enumerate(tokens, 1) if detector.push(token)), None)


@pytest.fixture(scope="module", params=["bytes", "demo", "qwen3"])
def read(request: pytest.FixtureRequest) -> Read:
    """A function that reads a text token by token: bytes, and two real vocabularies."""
    if request.param == "bytes":
        return lambda text: first_circle(bytes_of(text), lambda token: bytes([token]))
    path = DEMO_BUNDLE / "tokenizer.json" if request.param == "demo" else QWEN3_TOKENIZER
    if not path.exists():
        pytest.skip(f"{path} is not here")
    tokenizer = Tokenizer.from_file(path)
    return lambda text: first_circle(tokenizer.encode(text), tokenizer.token_bytes)


def items(count: int, *texts: str) -> str:
    return "".join(f"{number}. {texts[(number - 1) % len(texts)]}\n" for number in range(1, count + 1))


CIRCLES = {
    "one-word": " exactly" * 300,
    "two-words": " explanation over" * 200,
    "one-item": "The response is vivid and short. [Principle]\n" * 60,
    "one-numbered-item": "1. The response rhymes. [Hard Rule]\n" * 60,
    "rising-numbers": items(60, "The response rhymes. [Hard Rule]"),
    "rising-numbers-from-95": "".join(f"{n}. The response is vivid. [Principle]\n" for n in range(95, 150)),
    "rising-numbers-joined": " ".join(f"{n}. The response is vivid. [Principle]" for n in range(1, 60)),
    "rising-numbers-without-end": " ".join(f"({n}) the response is vivid" for n in range(1, 90)),
    "a-number-inside-too": items(60, "The response has fewer than 100 words. [Hard Rule]"),
    "words-before-the-number": "".join(f"**Criterion {n}:** The response is vivid.\n\n" for n in range(1, 60)),
    "two-items-in-turns": items(80, "The response rhymes. [Hard Rule]", "The response is vivid. [Principle]"),
    "chinese": "".join(f"{n}. 回答必须押韵。\n" for n in range(1, 90)),
    "punctuation": "! ?" * 300,
    "digits": "7" * 600,
    "marks": "-+" * 9000,
}


@pytest.mark.parametrize("name", CIRCLES)
def test_a_circle_is_found_and_soon(read: Read, name: str) -> None:
    normal = "1. The response opens with the question, not with an answer. [Hard Rule]\n2. "
    before = read(normal)
    assert before is None
    found = read(normal + CIRCLES[name])
    assert found is not None
    assert found <= 512


FRUITS = (
    *("apples", "pears", "plums", "kiwis", "figs", "dates", "limes", "grapes", "melons", "cherries", "oranges"),
    *("lemons", "mangos", "papayas", "guavas"),
)
LEGITIMATE = {
    "equal-openings": items(15, *(f"The response mentions {fruit}. [Hard Rule]" for fruit in FRUITS)),
    "equal-openings-and-ends": items(
        15, *(f"The response must include {f}, as the user asked. [Hard Rule]" for f in FRUITS)
    ),
    "counting": ", ".join(map(str, range(600))),
    "chapters": "\n".join(f"Chapter {n}" for n in range(1, 80)),
    "numbers-in-rows": "\n".join(f"| {n} | {n * n} | {n * 7 % 13} |" for n in range(80)),
    "measured-rows": "\n".join(f"| latency of the server | {n * n % 97} ms |" for n in range(60)),
    "table": "| criterion | kind |\n| --- | --- |\n" + "\n".join(f"| mentions {f} | hard rule |" for f in FRUITS),
    "wide-table": "|" + "-" * 90 + "|" + "-" * 90 + "|\n",
    "empty-table": "| a | b | c |\n|---|---|---|\n" + "|   |   |   |\n" * 12,
    "rule": "=" * 120 + "\n" + "Title\n" + "=" * 120,
    "zeros": "[\n" + ("  [" + ", ".join("0" * 8) + "],\n") * 8 + "]",
    "json": ",\n".join(f'{{"id": {n}, "name": "user{n}", "email": "user{n}@example.com"}}' for n in range(30)),
    "blank-lines": "\n" * 60 + "text" + " " * 90 + "text",
    "form": "Name: ________\nDate: ________\nPlace: ________\n" * 2,
    "refrain": "Row, row, row your boat, gently down the stream.\n" * 2 + "Merrily, merrily, merrily, merrily.\n",
    "laughter": "ha" * 20 + "! " + "no, " * 12,
    "list-twice": items(6, "It rhymes.", "It is short.", "It names a bird.") * 2,
    "nested-ends": "".join(" " * n + "</div>\n" for n in range(12, 0, -2)) * 3,
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_a_text_that_only_looks_alike_is_none(read: Read, name: str) -> None:
    assert read(LEGITIMATE[name]) is None


def test_no_file_of_this_project_is_a_circle(read: Read) -> None:
    """Code, tables and lists in quantity."""
    paths = [path for room in ("sdk", "docs", "tests/unit") for path in (ROOT / room).rglob("*.*")]
    texts = {path: path.read_text("utf-8") for path in paths if path.suffix in (".py", ".md")}
    assert len(texts) > 40
    assert [path for path, text in texts.items() if read(text) is not None] == []


@pytest.mark.skipif(not REAL_RUBRICS.exists(), reason="the published rubrics are not beside the checkout")
def test_no_published_rubric_is_a_circle(read: Read) -> None:
    rubrics = [json.loads(line)["rubric"] for line in REAL_RUBRICS.read_text("utf-8").splitlines()]
    assert rubrics
    assert [rubric for rubric in rubrics if read(rubric) is not None] == []


@settings(max_examples=60, deadline=None)
@given(
    before=st.lists(st.integers(97, 122), max_size=200),
    cycle=st.lists(st.integers(97, 122), min_size=1, max_size=64),
)
def test_any_cycle_of_letters_is_found_after_its_fourth_round(before: list[int], cycle: list[int]) -> None:
    needed = max(96, 4 * len(cycle))
    tokens = before + (cycle * 100)[:needed]
    found = first_circle(tokens, lambda token: bytes([token]))
    assert found is not None
    assert found <= len(before) + needed


@settings(max_examples=60, deadline=None)
@given(
    cycle=st.lists(st.integers(97, 122), min_size=25, max_size=MAX_PERIOD, unique_by=lambda n: n),
)
def test_three_rounds_are_no_circle(cycle: list[int]) -> None:
    assert first_circle(cycle * 3, lambda token: bytes([token])) is None


def brute_force(tokens: list[int]) -> int | None:
    """The rule for letters, word for word."""
    for count in range(1, len(tokens) + 1):
        for period in range(1, MAX_PERIOD + 1):
            length = max(96, 4 * period)
            end = tokens[max(0, count - length) : count]
            if len(end) == length and end[period:] == end[:-period]:
                return count
    return None


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.tuples(st.text("ab", min_size=1, max_size=4), st.integers(1, 60)), max_size=5))
def test_the_rule_is_the_documented_one(parts: list[tuple[str, int]]) -> None:
    tokens = bytes_of("".join(text * times for text, times in parts))
    assert first_circle(tokens, lambda token: bytes([token])) == brute_force(tokens)


def test_a_token_without_text_is_a_circle_too() -> None:
    assert first_circle([3] * 600, lambda _: b"") == 256


def test_half_a_character_is_no_fault() -> None:
    assert first_circle([0xF0] * 600, lambda token: bytes([token])) == 256
    assert first_circle(bytes_of("🙂" * 100), lambda token: bytes([token])) == 256


def test_digits_of_any_number_are_read() -> None:
    assert first_circle(bytes_of("9" * 200 + ". The response rhymes well.\n"), lambda token: bytes([token])) is None
