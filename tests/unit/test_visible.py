"""What nobody sees has no effect, and every index of what is seen has its place in the text."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.rubric.rubric import Kind, parse
from rubricrm.rubric.visible import VisibleLine

FORMAT = [chr(point) for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point)) == "Cf"]
SELECTORS = ["\ufe0e", "\ufe0f", "\U000e0100", "\u180b"]
CONTROLS = ["\0", "\x07", "\x08", "\x7f", "\u034f"]
TERMINAL = [
    "\x1b[0m",
    "\x1b[1;31m",
    "\x1b[38;5;196m",
    "\x9b1m",
    "\x1b]0;title\x07",
    "\x1b]8;;https://a.b\x1b\\",
    "\x1b(B",
]
SPELLED_OUT = ["\\x1b[1m", "\\u001b[0m", "\\033[31m", "\\e[1m", "^[[0m"]
HIDDEN = [*FORMAT, *SELECTORS, *CONTROLS, *TERMINAL, *SPELLED_OUT]

ENGLISH = (
    "{0}1{0}. {0}The response{0} must rhyme.{0} {0}[{0}Hard{0} Rule{0}]{0}\n"
    "{0}2. The response is vivid. [Princ{0}iple]{0}\n"
)
CHINESE = "{0}1. {0}回答必须押韵。{0} [硬{0}性规则{0}]\n2. {0}回答应当生动。【{0}原{0}则】{0}\n"
HEADINGS = (
    "{0}##{0} Hard{0} Rules{0}\n1. The response must rhyme.\n{0}\n### {0}Princ{0}iples{0}\n2. The response is vivid.\n"
)
TEXTS = {
    ENGLISH: ["The response must rhyme.", "The response is vivid."],
    CHINESE: ["回答必须押韵。", "回答应当生动。"],
    HEADINGS: ["The response must rhyme.", "The response is vivid."],
}


@pytest.mark.parametrize("hidden", HIDDEN, ids=ascii)
@pytest.mark.parametrize("form", TEXTS, ids=["English", "Chinese", "headings"])
def test_what_nobody_sees_changes_nothing(form: str, hidden: str) -> None:
    plain, found = parse(form.replace("{0}", "")), parse(form.replace("{0}", hidden))
    assert [criterion.text for criterion in found.criteria] == TEXTS[form]
    assert [criterion.kind for criterion in found.criteria] == [Kind.HARD_RULE, Kind.PRINCIPLE]
    assert found.criteria == plain.criteria
    assert [(issue.code, issue.line) for issue in found.issues] == [(issue.code, issue.line) for issue in plain.issues]


@pytest.mark.parametrize(
    "word",
    [
        *("👩\u200d👩\u200d👧", "❤️\u200d🔥", "👍🏽", "1️⃣", "©️", "‼️", "🏳️\u200d🌈"),
        *(
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "葛\U000e0100",
            "می\u200cخواهم",
            "ක්\u200dෂ",
        ),
        *("ᠬ\u180bᠠ", "\u06dd١"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize(
    "form", ["1. The response must show {} there. [Hard Rule]", "1. The response must end with {} [Hard Rule]"]
)
def test_what_shapes_a_picture_or_a_word_stays(form: str, word: str) -> None:
    rubric = parse(form.format(word))
    assert [criterion.text for criterion in rubric.criteria] == [form.format(word)[3:-12]]
    assert rubric.issues == ()


@pytest.mark.parametrize(
    "text", ["The re\u200dsponse", "The \u200cresponse", "The\ufe0f response", "The res\u00adponse"], ids=ascii
)
def test_joiners_elsewhere_go(text: str) -> None:
    assert parse(f"1. {text} must rhyme. [Hard Rule]").criteria[0].text == "The response must rhyme."


PIECES = ["a", "é", "明", " ", "❤", *FORMAT[::5], *SELECTORS, *CONTROLS, *TERMINAL]
lines = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(lines, st.integers(0, 50))
def test_every_index_has_its_place(raw: str, offset: int) -> None:
    line = VisibleLine(raw, offset, 3)
    end = offset
    for index, character in enumerate(line.text):
        place = line.place(index)
        assert raw[place.offset - offset] == character
        assert (place.line, place.column) == (3, place.offset - offset + 1)
        assert end <= place.offset < line.end_offset(index + 1)
        end = line.end_offset(index + 1)
    assert end <= offset + len(raw)


@given(lines)
def test_what_is_shown_is_what_is_seen_and_its_joiners(raw: str) -> None:
    line = VisibleLine(raw, 0, 1)
    shown = line.shown(0, len(line.text))
    assert VisibleLine(shown, 0, 1).text == line.text
    assert VisibleLine(shown, 0, 1).shown(0, len(line.text)) == shown


def test_joined_lines_keep_their_places() -> None:
    joined = VisibleLine.joined([VisibleLine("a\u200bb ", 10, 4), VisibleLine("\u200bcd", 14, 5)])
    assert joined.text == "ab cd"
    assert [tuple(joined.place(index)) for index in range(5)] == [
        (10, 4, 1),
        (12, 4, 3),
        (13, 4, 4),
        (15, 5, 2),
        (16, 5, 3),
    ]
