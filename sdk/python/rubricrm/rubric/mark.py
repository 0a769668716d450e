"""What starts an item: a number in one of many styles, a bullet, or nothing."""

from __future__ import annotations

import re
from enum import Enum, auto
from string import ascii_letters
from typing import NamedTuple

from rubricrm.rubric.criterion import Kind
from rubricrm.rubric.lazy_pattern import lazy_pattern
from rubricrm.rubric.numeral import ENCLOSED, HAN, KEYCAPS, LETTERS, WORDS, number_of
from rubricrm.rubric.phrase import opens_response
from rubricrm.rubric.tag import NAME, kind_of, may_name_kind, says_response, skip_tag


class Style(Enum):
    """How an item is marked. A list inside an item has another style than the items, or restarts their numbers."""

    NONE = auto()
    BULLET = auto()
    DIGITS = auto()
    LETTERS = auto()
    ENCLOSED = auto()
    NAMED = auto()
    DECIMAL = auto()


_NONE = Style.NONE  # looked up once: this is asked several times per line


class Mark(NamedTuple):
    """The mark of an item.

    Attributes:
        style: NONE where the line has no mark.
        number: Its number; None for a bullet, for "1.2" and where there is no mark.
        end: Where the item's text starts.
        is_exact: Whether it is `1. `, as the validators want it.
        opens_markup: Whether mark-up starts in it and goes on in the text.
        kind: The kind that it names, as "Hard Rule 1:" does.
    """

    style: Style
    number: int | None
    end: int
    is_exact: bool = False
    opens_markup: bool = False
    kind: Kind | None = None

    @property
    def is_none(self) -> bool:
        """Whether there is neither a number nor a bullet."""
        return self.style is _NONE

    @property
    def is_bullet(self) -> bool:
        """Whether it marks an item without numbering it."""
        return self.style is Style.BULLET


_BULLETS = "-*+•‣◦▪●○■□▸▹►▶➤➢·–"
_CHECKBOX = r"(?:(?:\\?\[[ xX✓✔✗]?\\?\]|[☐☑☒✅✔])\s+)"
_HTML_BEFORE = r"(?:<(?:li|p|b|strong|em|i|span|u)(?:\s[^<>]{0,60})?>\s*)"
_LEAD = rf"""(?:(?:[{_BULLETS}>|]|\#{{1,6}})\s+)?{_CHECKBOX}?+{_HTML_BEFORE}?["“'‘]?(?P<markup>[*_`~]{{0,3}})"""
_SHUT = r"(?P<shut>[*_`~]{0,3}(?:</[a-z]{1,6}>)?)"
_TAIL = rf"(?P<shut2>[*_`~]{{0,3}}(?:</[a-z]{{1,6}}>)?)(?P<gap>\s*)(?:[|•·–—-]\s+)?{_CHECKBOX}?"
_POINT = r"\\?[.．)）、]{1,2}[-–—]?(?!\d)|:(?=\s|$|[*_])|：(?!\d)"
_SPACED = r"\s*[-–—|/](?=\s|$)"

_DIGITS = lazy_pattern(
    rf"{_LEAD}(?P<bracket>[(（]|\\?[\[［【<〔])?(?P<hash>\#\s?)?(?P<numeral>\d{{1,9}}){_SHUT}"
    rf"(?P<point>{_POINT}|\\?[\]］】>〕](?!\d)[.:：、]?|[º°]|{_SPACED}|(?=\s)){_TAIL}"
)
_LETTERS = lazy_pattern(
    rf"{_LEAD}[(（\[]?(?P<numeral>[{LETTERS}]|[ivxlc]{{2,7}}|[IVXLC]{{2,7}}|[{HAN}]{{1,4}}){_SHUT}"
    rf"(?P<point>{_POINT}|\](?=\s)|{_SPACED}){_TAIL}"
)
_ENCLOSED = lazy_pattern(rf"{_LEAD}(?P<numeral>[{ENCLOSED}]|{KEYCAPS}){_SHUT}[.:：、)）]?{_TAIL}")
_DECIMAL = lazy_pattern(rf"{_LEAD}\d{{1,3}}(?:[.．]\d{{1,3}}){{1,4}}{_SHUT}[.)）、:：]?{_TAIL}")
_NOUN = (
    r"(?:criterion|criteria|rubric(?:\sitem)?|rule|item|requirement|point|guideline|standard|constraint|condition"
    r"|check)(?:\s*\#\s?|\s+|(?=\d))|(?:no|nr|number)[.．]?\s*(?=\d)"
    r"|(?:标准|標準|准则|準則|规则|規則|项目|項目|条件|基準|ルール|기준|항목)\s*"
)
_NAMED = lazy_pattern(
    rf"{_LEAD}(?:[第其](?P<ordinal>\d{{1,3}}|[{HAN}]{{1,4}})[条條项項点點则則个個]?"
    rf"|(?:{NAME}(?<!s)(?:\s*\#\s?|\s+|(?=\d))|{_NOUN})"
    rf"(?P<numeral>\d{{1,3}}|[{HAN}]{{1,4}}|[ivxlc]{{1,7}}|[a-z]|{WORDS})(?!\w)){_SHUT}"
    rf"(?P<point>{_POINT}|[、，,]|{_SPACED}|){_TAIL}",
    re.IGNORECASE,
)
_BULLET = lazy_pattern(rf"(?:[{_BULLETS}]\s+){_CHECKBOX}?|{_CHECKBOX}|<li(?:\s[^<>]{{0,60}})?>\s*")
_NO_WORDS = lazy_pattern(r"[^\w\s]{1,3}\s+|[^\w\s\x00-\x7f“”‘’«»「『（［【〔〈《]{1,3}")
# A mark that nobody knows, with a number in it and before "The response": "Dimension 2 (style):", "C-3.".
_OTHER_NAME = lazy_pattern(
    rf"[^\w]{{0,6}}(?:[^\W\d_]+[\s.#*_-]{{0,3}}){{0,3}}(?P<numeral>\d{{1,3}}|[{ENCLOSED}])(?:st|nd|rd|th)?"
    r"(?:\s?[(（][^()（）]{1,24}[)）])?[^\w]{1,6}"
)
_LONGEST_OTHER_NAME = 48
_PICTURES = lazy_pattern("[\u2190-\u21ff\u2300-\u23ff\u2500-\u27bf\u2900-\u2bff\U0001f300-\U0001faff]{1,3}\\s+")

# No name of `_NAMED` starts with one of these.
_FIRST_OF_NO_NAME = frozenset("abdefjklmoqtuvwxyzABDEFJKLMOQTUVWXYZ")
# A longer number at the start of a line is a year or a quantity, unless it is the very next number.
_MAX_NUMBER = 999
_STRONG_POINTS = ".．)）、:：\\"
_BRACKETS = {"[": "]", "［": "］", "【": "】", "<": ">", "〔": "〕"}


def read_mark(text: str, expected: int, start: int = 0) -> Mark:
    """The mark at a position; `expected` is the number that would follow the previous one."""
    first = text[start : start + 1]
    for read in _OF_LATIN if first in _LATIN else _OF_DIGITS if first.isdigit() else _ALL:
        mark = read(text, expected, start)
        if mark is not None:
            return mark
    return Mark(Style.NONE, None, start)


def _read_digits(text: str, expected: int, start: int) -> Mark | None:
    match = _DIGITS.match(text, start)
    if match is None:
        return None
    number, point = int(match["numeral"]), match["point"].strip()
    if (number > _MAX_NUMBER and number != expected) or not _is_closed(match["bracket"] or "", point):
        return None
    is_strong = point[:1] != "" and point[0] in _STRONG_POINTS
    if not is_strong and not (number == expected and (point or match["hash"])) and not says_response(text, match.end()):
        return None
    written = text[start : match.end("gap")]
    is_exact = written.rstrip() == f"{number}." and (match["gap"] != "" or match.end() == len(text))
    return _mark(Style.DIGITS, number, match, is_exact=is_exact and match.end("gap") == match.end())


def _is_closed(opening: str, point: str) -> bool:
    """Whether a square or angle bracket before a number is closed after it, and none closed that was not opened."""
    closing = point.lstrip("\\")[:1]
    return _BRACKETS.get(opening.lstrip("\\"), "") == (closing if closing in _BRACKETS.values() else "")


def _read_letters(text: str, expected: int, start: int) -> Mark | None:
    match = _LETTERS.match(text, start)
    number = None if match is None else number_of(match["numeral"], expected)
    if match is None or number is None:
        return None
    is_sure = says_response(text, match.end())
    if not is_sure and (number not in (1, expected) or match["point"].strip()[0] not in ".．)）、"):
        return None
    # "e.g. a map", "U.S. law": letters that no space follows are an abbreviation.
    if not is_sure and match["gap"] == "" and match.end() < len(text) and match["numeral"].isascii():
        return None
    return _mark(Style.LETTERS, number, match)


def _read_enclosed(text: str, expected: int, start: int) -> Mark | None:
    match = _ENCLOSED.match(text, start)
    number = None if match is None else number_of(match["numeral"], expected)
    return None if match is None or number is None else _mark(Style.ENCLOSED, number, match)


def _read_decimal(text: str, _: int, start: int) -> Mark | None:
    match = _DECIMAL.match(text, start)
    if match is None or not match["gap"]:
        return None
    # "1.5 million" goes on in small letters.
    goes_on = text[match.end() : match.end() + 1].islower() and not says_response(text, match.end())
    return None if goes_on else _mark(Style.DECIMAL, None, match)


def _read_named(text: str, expected: int, start: int) -> Mark | None:
    if text[start : start + 1] in _FIRST_OF_NO_NAME:
        return None
    match = _NAMED.match(text, start)
    number = None if match is None else number_of(match["ordinal"] or match["numeral"], expected)
    if match is None or number is None:
        return None
    point, end = match["point"].strip(), match.end()
    is_set_off = point not in ("", ",", "，") or match["ordinal"] or end == len(text) or skip_tag(text, end) > end
    if not is_set_off and not says_response(text, end):
        return None
    kind = kind_of(match) if match["hard_rule"] or match["principle"] else None
    return _mark(Style.NAMED, number, match, kind=kind)


def _read_other_name(text: str, _: int, start: int) -> Mark | None:
    words = text.find("The response", start, start + _LONGEST_OTHER_NAME)
    if words <= start or may_name_kind(text[start:words]):
        return None
    match = _OTHER_NAME.fullmatch(text, start, words)
    return None if match is None else Mark(Style.NAMED, number_of(match["numeral"], 0), words)


def _read_bullet(text: str, _: int, start: int) -> Mark | None:
    match = _BULLET.match(text, start) or _PICTURES.match(text, start)
    if match is None:
        match = _NO_WORDS.match(text, start)
        if match is None or not opens_response(text, match.end()):
            return None
    return Mark(Style.BULLET, None, match.end())


def _mark(
    style: Style, number: int | None, match: re.Match[str], *, is_exact: bool = False, kind: Kind | None = None
) -> Mark:
    opens_markup = match["markup"] != "" and not (match["shut"] or match["shut2"])
    return Mark(style, number, match.end(), is_exact, opens_markup, kind)


# Most lines start with a letter or a digit: what cannot be there is not tried.
_LATIN = frozenset(ascii_letters)
_OF_LATIN = (_read_letters, _read_named, _read_other_name)
_OF_DIGITS = (_read_digits, _read_enclosed, _read_decimal, _read_other_name)
_ALL = (_read_digits, _read_letters, _read_named, _read_enclosed, _read_decimal, _read_other_name, _read_bullet)
