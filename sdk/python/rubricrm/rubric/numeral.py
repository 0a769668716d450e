"""What number a numeral stands for: digits of any script, letters, Roman and Chinese numerals, enclosed characters."""

from __future__ import annotations

import unicodedata

from rubricrm.rubric.lazy_pattern import lazy_pattern

# The letters that lists count with, alphabet by alphabet.
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "абвгдежзиклмнопрстуфхцчшщэюя",
    "אבגדהוזחטי",
    "أبجدهوزحطي",
    "กขคงจฉชซ",
    "가나다라마바사아자차카타파하",
    "アイウエオカキクケコサシスセソ",
    "甲乙丙丁戊己庚辛壬癸",
)
_HAN_DIGITS = {
    written: value
    for value, group in enumerate(
        ("零〇", "一壹", "二两兩贰貳", "三叁參", "四肆", "五伍", "六陆陸", "七柒", "八捌", "九玖")
    )
    for written in group
}
_HAN_UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100}
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ROMAN = lazy_pattern(r"(?=[ivxlc])(c{0,3})(xc|xl|l?x{0,3})(ix|iv|v?i{0,3})")
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

# Characters for patterns. An enclosed one needs no full stop after it: circles, parentheses, squares, and U+2488 "1.".
LETTERS = "".join(_ALPHABETS) + "".join(_ALPHABETS).upper() + "ａ-ｚＡ-Ｚ"
HAN = "".join(_HAN_DIGITS) + "".join(_HAN_UNITS)
ENCLOSED = (
    "\u2460-\u24ff\u2776-\u2793\u3220-\u3229\u3251-\u325f\u3280-\u3289\u32b1-\u32bf\u2160-\u217f"
    "\U0001f101-\U0001f10a\U0001f110-\U0001f129\U0001f130-\U0001f149"
)
KEYCAPS = "(?:[0-9]\u20e3){1,3}|\U0001f51f"
WORDS = "|".join(_WORDS)


def number_of(written: str, expected: int) -> int | None:
    """The number that a numeral stands for; `expected` chooses where it stands for two (i is 1 and 9)."""
    values = _values(unicodedata.normalize("NFKC", written).casefold().strip("()., "))
    return expected if expected in values else next(iter(values), None)


def _values(written: str) -> list[int]:
    """Every number that it may stand for, the likeliest first."""
    if written.isdecimal():
        return [int(written)]
    if len(written) == 1:
        readings = [
            *(alphabet.find(written) + 1 for alphabet in _ALPHABETS),
            _roman(written),
            _single(written),
            _keycaps(written),
        ]
    else:
        readings = [_roman(written), _han(written), _word(written), _keycaps(written)]
    return [number for number in readings if number]


def _single(written: str) -> int:
    value = unicodedata.numeric(written, 0.0)
    return int(value) if value.is_integer() else 0


def _roman(written: str) -> int:
    if not written or _ROMAN.fullmatch(written) is None:
        return 0
    values = [_ROMAN_VALUES[letter] for letter in written]
    return sum(-value if value < max(values[i:]) else value for i, value in enumerate(values))


def _han(written: str) -> int:
    """The value of a Chinese numeral below 1000; 0 for other text."""
    total = digit = 0
    for character in written:
        if character in _HAN_UNITS:
            total, digit = total + (digit or 1) * _HAN_UNITS[character], 0
        elif character in _HAN_DIGITS:
            digit = digit * 10 + _HAN_DIGITS[character]
        else:
            return 0
    return total + digit


def _word(written: str) -> int:
    return _WORDS.index(written) + 1 if written in _WORDS else 0


def _keycaps(written: str) -> int:
    if written == "\U0001f51f":
        return 10
    digits = written.replace("\u20e3", "")
    return int(digits) if digits.isdecimal() and digits != written else 0
