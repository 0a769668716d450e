"""The marks of a rubric line: numbers, tags, wrappers, and where a joined line falls apart.

Every pattern is linear: it starts at a fixed character, and no two neighboring repeats can match the same text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rubricrm.rubric.criterion import Kind

# White space of Unicode, and what a reader cannot see either: NUL, zero-width space, word joiner, byte order mark.
BLANK = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\x00\u200b\u2060\ufeff"
)

_TAG = re.compile(
    r"(?P<before>[*_`]{0,3})\\?[\[［【]\s*(?:[*_]{1,3}\s*)?(?P<name>hard[\s_-]*rules?|principles?)\s*"
    r"(?:[*_]{1,3}\s*)?\\?[\]］】](?P<after>[*_`]{0,3})",
    re.IGNORECASE,
)
_TAG_TAIL = re.compile(r"\s*[.,;:|/。．]*\s*")
_OPENING_QUOTE = re.compile(r"""(?:^|[\s(（])["']$|[“‘«「『„]$""")
_CLOSING_QUOTES = "\"'”’»」』"

_NUMBER = re.compile(
    r"(?P<lead>(?:[-*+•‣◦▪●>]\s+|\#{1,6}\s+)?(?P<bold>[*_]{0,3})[(（]?)(?P<digits>\d{1,9})"
    r"(?P<shut>[*_]{0,3})(?P<point>[.)）．、](?!\d)|[:：](?=\s|$))(?P<shut2>[*_]{0,3})(?P<gap>\s*)"
)
_BULLET = re.compile(r"[-*+•‣◦▪●]\s+")
# A longer number at the start of a line is a year or a quantity, unless it is the very next number.
_MAX_NUMBER = 999

_OPENING_WORDS = re.compile(r"""[*_"“]{0,3}the\s+response\b""", re.IGNORECASE)
_SENTENCE_ENDS = tuple(".!?…。！？")
_SENTENCE_CLOSERS = "\"'`”’»」』)]）*_"
_SENTENCE_BREAK = re.compile(r"""[.!?…。！？:：]["'”’)*_]{0,3}\s+(?=[*_]{0,3}[(（]?\d)""")

_HEADING = re.compile(r"(?P<lead>[#*_\s]*)(?P<name>hard rules?|principles?)(?P<tail>[:：*_\s]*)", re.IGNORECASE)
_MARKDOWN_HEADING = re.compile(r"#{1,6}\s")

_FENCE = r"(?:`{3,8}|~{3,8})"
_WRAPPER = r"</?(?:rubrics?|answer|output)>|</think>|<\|\w{1,20}\|>"
_THINK_END = re.compile("</think>", re.IGNORECASE)
_LEADING_WRAPPER = re.compile(rf"(?:{_FENCE}(?:[a-z]+(?=\s*$))?|{_WRAPPER})\s*", re.IGNORECASE)
_TRAILING_WRAPPER = re.compile(rf"(?:{_FENCE}|{_WRAPPER})$", re.IGNORECASE)
_LONGEST_WRAPPER = 24
_LONGEST_TAG = 24
_SHORTEST_TAG = len("[HardRule]")
_SHORTEST_BREAK = len("A: 1. B")
_UNCLOSED_BRACKET = re.compile(r"[\[［【][^\]］】]*$")


class Tag(NamedTuple):
    """A tag in a line: where it stands, and how it was written."""

    start: int
    end: int
    kind: Kind
    written: str
    dangling_bold: str

    @property
    def is_exact(self) -> bool:
        """Whether it is written as the validators want it; a line may wrap inside."""
        return " ".join(self.written.split()) == self.kind.tag


class Mark(NamedTuple):
    """What starts an item: a number, a bullet, or nothing."""

    number: int | None
    is_bullet: bool
    end: int
    is_exact: bool
    open_bold: str

    @property
    def is_none(self) -> bool:
        """Whether there is neither a number nor a bullet."""
        return self.number is None and not self.is_bullet


def find_tags(text: str) -> list[Tag]:
    """The tags of a line, in order. A tag in quotes is text that speaks about tags."""
    if len(text) < _SHORTEST_TAG:
        return []
    return [_tag(match) for match in _TAG.finditer(text) if not _is_quoted(text, match)]


def _tag(match: re.Match[str]) -> Tag:
    kind = Kind.HARD_RULE if match["name"][0] in "hH" else Kind.PRINCIPLE
    dangling = "" if match["before"] else match["after"].strip("`")
    return Tag(match.start(), match.end(), kind, match.group(), dangling)


def _is_quoted(text: str, match: re.Match[str]) -> bool:
    start, after = match.start(), text[match.end() : match.end() + 1]
    if "`" in match["before"] + match["after"]:
        # In backticks a tag is quoted inside a sentence, and set as code behind one.
        return not ends_sentence(text, start)
    return (after != "" and after in _CLOSING_QUOTES) or bool(_OPENING_QUOTE.search(text[max(0, start - 2) : start]))


def is_bare(text: str, tag: Tag) -> bool:
    """Whether white space alone stands before the tag, and nothing behind it."""
    return not text[tag.end :].strip(BLANK) and (tag.start == 0 or text[tag.start - 1] in BLANK)


def is_last(text: str, tag: Tag) -> bool:
    """Whether nothing but punctuation follows the tag."""
    rest = text[tag.end : tag.end + 16]
    return len(rest) < 16 and not rest.strip(BLANK + ".,;:|/*_。．")


def is_tag_split(before: str, after: str) -> bool:
    """Whether a tag starts at the end of one line and ends at the start of the next."""
    tail = before[-_LONGEST_TAG:].rstrip(BLANK) + " "
    match = _TAG.search(tail + after.lstrip(BLANK)[:_LONGEST_TAG])
    return match is not None and match.start() < len(tail) < match.end()


def has_open_bracket(text: str) -> bool:
    """Whether the line ends inside what may be a tag."""
    tail = text[-_LONGEST_TAG:]
    return (not tail.isascii() or "[" in tail) and _UNCLOSED_BRACKET.search(tail) is not None


def without_break(line: str) -> str:
    """The line with spaces for its break, so that offsets stay."""
    body = line.rstrip("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029")
    return body + " " * (len(line) - len(body))


def without_cut_tag(text: str) -> str:
    """The text without the start of a tag at its end."""
    bracket = text.rfind("[", -_LONGEST_TAG)
    begun = text[bracket + 1 :].lower()
    if bracket < 0 or not ("hard rule".startswith(begun) or "principle".startswith(begun)):
        return text
    return text[:bracket].rstrip(BLANK + "*_`\\")


def read_mark(text: str, expected: int, start: int = 0) -> Mark:
    """The number or bullet at a position; `expected` is the number that would follow the previous one."""
    match = _NUMBER.match(text, start)
    if match is not None:
        number = int(match["digits"])
        if number <= _MAX_NUMBER or number == expected:
            is_exact = match["lead"] + match["shut"] + match["point"] + match["shut2"] == "."
            is_exact = is_exact and (match["gap"] != "" or match.end() == len(text))
            is_open = match["bold"] and not (match["shut"] or match["shut2"])
            is_exact = is_exact and match["digits"].isascii()
            return Mark(number, False, match.end(), is_exact, match["bold"] if is_open else "")
    match = _BULLET.match(text, start)
    return Mark(None, match is not None, match.end() if match else start, False, "")


def says_response(text: str, start: int = 0) -> bool:
    """Whether the text at a position opens as every criterion should, behind a tag if one stands there."""
    tag = _TAG.match(text, start)
    return _OPENING_WORDS.match(text, _skip_tail(text, tag.end()) if tag else start) is not None


def opens_as_response(text: str) -> bool:
    """Whether the text starts with "The response" and no mark-up."""
    return text[:1] in ("t", "T") and _OPENING_WORDS.match(text) is not None


def ends_sentence(text: str, end: int | None = None) -> bool:
    """Whether the text, or its part before `end`, ends with a full stop or its like, quotes and brackets aside."""
    end = len(text) if end is None else end
    return text[max(0, end - 16) : end].rstrip(BLANK + _SENTENCE_CLOSERS).endswith(_SENTENCE_ENDS)


def heading_kind(text: str, *, needs_adornment: bool) -> Kind | None:
    """The kind that a line such as `### Hard Rules`, `**Principles**` or `Hard Rules:` announces."""
    match = _HEADING.fullmatch(text)
    if match is None or (needs_adornment and not (match["lead"] or match["tail"])):
        return None
    return Kind.HARD_RULE if match["name"][0] in "hH" else Kind.PRINCIPLE


def is_markdown_heading(text: str) -> bool:
    """Whether the line is a heading of any wording."""
    return _MARKDOWN_HEADING.match(text) is not None


def find_think_end(text: str, start: int) -> int | None:
    """The offset behind the next </think>."""
    match = _THINK_END.search(text, start)
    return match.end() if match else None


def strip_wrappers(text: str, start: int, end: int) -> tuple[int, int, list[str]]:
    """The bounds of the text inside fences and wrapper tags, and what was taken off."""
    found: list[str] = []
    if start < end and text[start] not in "<`~" and text[end - 1] not in ">`~":
        return start, end, found
    while match := _LEADING_WRAPPER.match(text, start, end):
        found.append(match.group().strip(BLANK))
        start = match.end()
    while match := _TRAILING_WRAPPER.search(text, max(start, end - _LONGEST_WRAPPER), end):
        found.append(match.group())
        end = match.start()
        while end > start and text[end - 1] in BLANK:
            end -= 1
    return start, end, found


def item_starts(text: str, last: int) -> list[int]:
    """Where the items of one line start; the first is 0, whether or not an item starts there.

    Behind a tag a number, or a full stop before the tag and "The response" behind it, starts an item. Without a tag it
    takes the very next number, and "The response" or a tag behind it: "needs version 2. The response ..." goes on.
    """
    starts = [0]
    mark = read_mark(text, last + 1)
    number = last if mark.number is None else mark.number
    content = mark.end
    for position, tag in _breaks(text):
        mark = read_mark(text, number + 1, position)
        if position > content and _starts_item(text, mark, tag, content, number):
            starts.append(position)
            number = number if mark.number is None else mark.number
            content = mark.end
    return starts


def _breaks(text: str) -> list[tuple[int, Tag | None]]:
    if len(text) < _SHORTEST_BREAK:
        return []
    places: dict[int, Tag | None] = {match.end(): None for match in _SENTENCE_BREAK.finditer(text)}
    places.update((_skip_tail(text, tag.end), tag) for tag in find_tags(text))
    return sorted(places.items(), key=lambda place: place[0])


def _starts_item(text: str, mark: Mark, tag: Tag | None, content: int, number: int) -> bool:
    if tag is None:
        opens = says_response(text, mark.end) or _TAG.match(text, mark.end) is not None
        return mark.number == number + 1 and (opens or (number == 0 and content == 0))
    if mark.number is not None:
        return True
    return tag.start > content and ends_sentence(text, tag.start) and says_response(text, mark.end)


def _skip_tail(text: str, end: int) -> int:
    match = _TAG_TAIL.match(text, end)
    return match.end() if match else end
