"""librubricrm reads every text as the Python package does: each pattern, each rubric, each stream, each message."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from random_texts import random_bytes, random_texts, written_texts
from rubricrm.errors import RubricMalformed
from rubricrm.rubric import form
from rubricrm.rubric.rubric import parse

pytestmark = pytest.mark.native

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("RUBRICRM_NATIVE_BUILD", ROOT / "build" / "native" / "release"))
PARSE, MATCH = BUILD / "tests" / "cpp" / "parse_stream", BUILD / "tests" / "cpp" / "match_stream"
NUM_TEXTS = int(os.environ.get("RUBRICRM_PARITY_TEXTS", "2000"))
SEED = int(os.environ.get("RUBRICRM_PARITY_SEED", "1"))
# The tables of the library are those of this version of Unicode, Python 3.11's. Others know more characters.
UNICODE = "14.0.0"

needs_build = pytest.mark.skipif(
    not (PARSE.is_file() and MATCH.is_file()),
    reason=f"no build of librubricrm in {BUILD}: build it by `cmake --preset release`, or set RUBRICRM_NATIVE_BUILD",
)
needs_unicode = pytest.mark.skipif(
    unicodedata.unidata_version != UNICODE, reason=f"this Python has another version of Unicode than {UNICODE}"
)


def answers(program: Path, given: Iterable[tuple[str, bytes]]) -> list[str]:
    frames = b"".join(f"{flags} {len(data)}\n".encode() + data for flags, data in given)
    done = subprocess.run([program], input=frames, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode("utf-8").split("\n")[:-1]


def expected(text: str, flags: str) -> dict[str, Any]:
    try:
        rubric = parse(text, truncated="t" in flags, starts_in_thought="i" in flags, strict="s" in flags)
        spans = [[c.span.start, c.span.end, c.span.line, c.span.column] for c in rubric.criteria]
        found = {"json": rubric.to_json(), "spans": spans, "streamed": True}
        found |= {"indented": rubric.to_json(indent=2)} if "j" in flags else {}
        return found | ({"rendered": rubric.render()} if "r" in flags else {})
    except RubricMalformed as error:
        return {"error": str(error)}


def assert_equal(texts: list[str], data: list[bytes]) -> None:
    # Each text is read in one way; which one goes round.
    flags = [("-", "t", "i", "r", "j", "s", "ti")[index % 7] for index in range(len(texts))]
    given = answers(PARSE, zip(flags, data, strict=True))
    assert len(given) == len(texts)
    for text, flag, answer in zip(texts, flags, given, strict=True):
        assert json.loads(answer) == expected(text, flag), (text, flag)


@needs_build
@needs_unicode
def test_written_texts() -> None:
    texts = [text for text in written_texts() for _ in range(7)]
    assert_equal(texts, [text.encode("utf-8") for text in texts])


@needs_build
@needs_unicode
def test_random_texts() -> None:
    texts = list(random_texts(NUM_TEXTS, SEED))
    assert_equal(texts, [text.encode("utf-8") for text in texts])


@needs_build
@needs_unicode
def test_bytes_that_are_no_utf8_are_replaced_as_python_does() -> None:
    data = list(random_bytes(NUM_TEXTS // 8, SEED + 1))
    texts = [given.decode("utf-8", "replace") for given in data]
    assert any("\ufffd" in text for text in texts)
    assert_equal(texts, data)


@needs_build
@needs_unicode
def test_every_case_of_characters_is_known() -> None:
    """Every character that str.casefold or a pattern may care for, in a criterion that is written three times."""
    texts = []
    for start in range(0, 0x20000, 0x100):
        block = "".join(chr(code) for code in range(start, start + 0x100) if not 0xD800 <= code < 0xE000)
        one = f"1. The response must say {block}. [Hard Rule]\n"
        texts.append(one + f"2. The response must say {block.casefold()}. [Hard Rule]\n" + one)
    assert_equal(texts, [text.encode("utf-8") for text in texts])


@needs_build
def test_the_form_for_other_engines() -> None:
    done = subprocess.run([PARSE, "form"], stdout=subprocess.PIPE, check=True)
    given = [json.loads(line) for line in done.stdout.splitlines()]
    assert given == [[form.regex(max_items), form.gbnf(max_items)] for max_items in range(1, 65)]


def bounds(match: re.Match[str] | None, groups: dict[str, int]) -> str:
    if match is None:
        return "-"
    spans = {0: match.span()} | {groups[name]: match.span(name) for name in match.re.groupindex}
    return ",".join(f"{n}:{start}-{end}" for n, (start, end) in sorted(spans.items()) if end >= 0)


def windows(count: int) -> Iterator[tuple[str, int, int]]:
    """Texts, and where a pattern should begin and end in them."""
    for index, text in enumerate(random_texts(count, SEED + 2)):
        for number, line in enumerate(re.split(r"(?<=\n)", text)[:3]):
            start = (index * 7 + number) % (len(line) + 1) if index % 3 else 0
            yield line, start, len(line) if index % 4 else max(start, len(line) - index % 5)


@needs_build
@needs_unicode
def test_every_pattern_finds_what_re_finds() -> None:
    from make_pattern_tables import group_numbers, lazy_patterns

    patterns = lazy_patterns()
    groups = group_numbers(patterns)
    compiled = [(f"{m}.{n}", re.compile(p._text, p._flags)) for m, named in patterns.items() for n, p in named.items()]
    given = list(windows(NUM_TEXTS // 8))
    found = iter(answers(MATCH, ((f"{start} {end}", line.encode("utf-8")) for line, start, end in given)))
    for line, start, end in given:
        for name, pattern in compiled:
            ways = (
                pattern.match(line, start, end),
                pattern.fullmatch(line, start, end),
                pattern.search(line, start, end),
            )
            assert next(found) == f"{name} {' '.join(bounds(way, groups) for way in ways)}", (line, start, end)
    assert next(found, None) is None


@needs_unicode
def test_the_tables_are_what_the_script_writes() -> None:
    script = ROOT / "sdk" / "cpp" / "rubric" / "make_pattern_tables.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
