"""Marks of items: numbers in every style, bullets, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.rubric.criterion import Kind
from rubricrm.rubric.mark import Style, read_mark
from rubricrm.rubric.numeral import number_of

ROMAN = (
    "I",
    "II",
    "III",
    "IV",
    "V",
    "VI",
    "VII",
    "VIII",
    "IX",
    "X",
    "XI",
    "XII",
    "XIII",
    "XIV",
    "XV",
    "XVI",
    "XIX",
    "XL",
)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        *(("7", 7), ("１２", 12), ("٣", 3), ("१०", 10), ("c", 3), ("Z", 26), ("ｂ", 2), ("δ", 4), ("б", 2), ("ב", 2)),
        *(("①", 1), ("⑳", 20), ("㉑", 21), ("❿", 10), ("⒏", 8), ("⑿", 12), ("ⓓ", 4), ("⒠", 5), ("Ⅻ", 12), ("ⅳ", 4)),
        *(
            ("㊂", 3),
            ("㈣", 4),
            ("🄆", 5),
            ("🅃", 20),
            ("一", 1),
            ("十", 10),
            ("十二", 12),
            ("二十", 20),
            ("三十一", 31),
        ),
        *(
            ("貳", 2),
            ("百二十", 120),
            ("甲", 1),
            ("나", 2),
            ("イ", 2),
            ("3\u20e3", 3),
            ("1\u20e32\u20e3", 12),
            ("🔟", 10),
        ),
        *(("three", 3), ("Twelve", 12), ("?", None), ("iiii", None), ("vx", None)),
    ],
)
def test_numerals(written: str, number: int | None) -> None:
    assert number_of(written, 0) == number


@pytest.mark.parametrize("style", ["{}", "({})", "{}."])
def test_expected_number_chooses_between_letters_and_roman_numerals(style: str) -> None:
    assert [number_of(style.format(letter), 9) for letter in "iI"] == [9, 9]
    assert [number_of(style.format(letter), 1) for letter in "iI"] == [1, 1]
    assert number_of(style.format("v"), 5) == 5


@given(st.integers(1, 399))
def test_roman_numerals(number: int) -> None:
    values = ((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
    written, rest = "", number
    for value, letters in values:
        written += letters * (rest // value)
        rest %= value
    assert number_of(written, number) == number


@given(st.text(max_size=4), st.integers(0, 99))
def test_no_text_breaks_numerals(written: str, expected: int) -> None:
    number = number_of(written, expected)
    assert number is None or number > 0 or written.strip("(). ").isdecimal()


SAYS = "The response must rhyme."


@pytest.mark.parametrize(
    ("mark", "style", "number"),
    [
        *(("1. ", Style.DIGITS, 1), ("1) ", Style.DIGITS, 1), ("(1) ", Style.DIGITS, 1), ("[1] ", Style.DIGITS, 1)),
        *(("#1 ", Style.DIGITS, 1), ("#1: ", Style.DIGITS, 1), ("1 - ", Style.DIGITS, 1), ("1\\. ", Style.DIGITS, 1)),
        *(("1.) ", Style.DIGITS, 1), ("1: ", Style.DIGITS, 1), ("1 ", Style.DIGITS, 1), ("1、", Style.DIGITS, 1)),
        *(
            ("**1.** ", Style.DIGITS, 1),
            ("**1**. ", Style.DIGITS, 1),
            ("### 1. ", Style.DIGITS, 1),
            ("> 1. ", Style.DIGITS, 1),
        ),
        *(
            ("- 1. ", Style.DIGITS, 1),
            ("- [ ] 1. ", Style.DIGITS, 1),
            ("1. [x] ", Style.DIGITS, 1),
            ("<b>1.</b> ", Style.DIGITS, 1),
        ),
        *(("A. ", Style.LETTERS, 1), ("b) ", Style.LETTERS, 2), ("(c) ", Style.LETTERS, 3), ("iv. ", Style.LETTERS, 4)),
        *(
            ("**IX)** ", Style.LETTERS, 9),
            ("A - ", Style.LETTERS, 1),
            ("A: ", Style.LETTERS, 1),
            ("[A] ", Style.LETTERS, 1),
        ),
        *(("一、", Style.LETTERS, 1), ("（二） ", Style.LETTERS, 2), ("十一. ", Style.LETTERS, 11)),
        *(
            ("① ", Style.ENCLOSED, 1),
            ("⑵", Style.ENCLOSED, 2),
            ("3\u20e3 ", Style.ENCLOSED, 3),
            ("**④** ", Style.ENCLOSED, 4),
        ),
        *(("Criterion 1: ", Style.NAMED, 1), ("**Rule 2** - ", Style.NAMED, 2), ("Item #3. ", Style.NAMED, 3)),
        *(("No. 4: ", Style.NAMED, 4), ("Criterion Five: ", Style.NAMED, 5), ("Rule VI. ", Style.NAMED, 6)),
        *(
            ("第七条 ", Style.NAMED, 7),
            ("第8条：", Style.NAMED, 8),
            ("标准九：", Style.NAMED, 9),
            ("Requirement 10 ", Style.NAMED, 10),
        ),
        *(("1.1 ", Style.DECIMAL, None), ("1.2.3. ", Style.DECIMAL, None), ("**2.1** ", Style.DECIMAL, None)),
        *(
            ("- ", Style.BULLET, None),
            ("• ", Style.BULLET, None),
            ("- [ ] ", Style.BULLET, None),
            ("☐ ", Style.BULLET, None),
        ),
        *(
            ("🔹 ", Style.BULLET, None),
            ("➡ ", Style.BULLET, None),
            (">> ", Style.BULLET, None),
            ("※ ", Style.BULLET, None),
        ),
    ],
)
def test_marks(mark: str, style: Style, number: int | None) -> None:
    found = read_mark(mark + SAYS, 1)
    assert (found.style, found.number, found.end) == (style, number, len(mark))
    assert found.is_exact == (mark == "1. ")


@pytest.mark.parametrize(("mark", "kind"), [("Hard Rule 1: ", Kind.HARD_RULE), ("Principle 1. ", Kind.PRINCIPLE)])
def test_names_of_kinds_in_marks(mark: str, kind: Kind) -> None:
    assert read_mark(mark + SAYS, 1).kind is kind


@pytest.mark.parametrize(
    "text",
    [
        *(
            "e.g. a map",
            "U.S. law",
            "i.e. all",
            "I think so",
            "A map",
            "C. Brown said so",
            "No. It does",
            "No one. Else",
        ),
        *(
            "2024. It ends",
            "1987 was good",
            "3 apples",
            "1.5 million",
            "1.1. of them",
            "Rule 2 of the game",
            "Item 3, which",
        ),
        *("Hard Rules (2)", "Principles", "[1", "[x", "1", "--", "**bold** text", "Criterion: clear", "第 一", "x. y"),
    ],
)
def test_no_marks(text: str) -> None:
    assert read_mark(text, 7).is_none


def test_next_number_may_be_long() -> None:
    assert read_mark("1000. The response", 1000).number == 1000
    assert read_mark("1000. The response", 7).is_none
