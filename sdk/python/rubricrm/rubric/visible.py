"""A line as a reader sees it: without the characters that nobody sees, each with its place in the text.

Marks and tags are looked for in what is seen, so that no bidirectional mark, zero-width space or terminal color has an
effect on them. A text is given out with those of the characters that do show: the joiners of emoji and of scripts that
need them.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from typing import NamedTuple

from rubricrm.rubric.lazy_pattern import lazy_pattern

# Ranges of code points. A test compares the first with Unicode's category Cf of the Python that runs it.
_FORMAT = (
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_VARIATION_SELECTORS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_CONTROL = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # Cc without white space
_OTHER = "\u034f\u17b4\u17b5"  # ignorable marks
_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"  # seen as a space
# Colors and hyperlinks of terminals (ECMA-48), also where the escape character is spelled out.
_TERMINAL = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|\x9d)[^\x07\x1b\x9c\x9d]*(?:\x07|\x1b\\|\x9c)|\x1b[()][0AB]"
    r"|(?:\\x1b|\\x1B|\\u001b|\\u001B|\\033|\\e|\^\[|␛)\[[\d;]{0,16}m"
)
_HIDDEN = lazy_pattern(f"{_TERMINAL}|(?P<characters>[{_FORMAT}{_VARIATION_SELECTORS}{_CONTROL}{_OTHER}]+)")
# One class of characters is quick to look for: most lines hold none of them.
_UNUSUAL = lazy_pattern(rf"[{_FORMAT}{_VARIATION_SELECTORS}{_CONTROL}{_OTHER}{_FILLERS}\\^␛]")
_AS_SPACES = {ord(filler): " " for filler in _FILLERS}

_JOINERS = "\u200c\u200d"
_KEYCAP = "\u20e3"
# Signs before numbers in Arabic, Syriac and Kaithi: format characters that one sees.
_NUMBER_SIGNS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
_BLACK_FLAG = "\U0001f3f4"
_PICTURES_IN_TEXT = "‼⁉〰〽"
_MOST_KEPT = 16  # the flag of a country's part takes six, a joined picture two


class Place(NamedTuple):
    """Where a character stands in the text: its offset, its line and its column, both from 1."""

    offset: int
    line: int
    column: int


class VisibleLine:
    """A line, or several that were joined because a tag goes across their break.

    Indexes are those of `text`; offsets are those of the whole text that the line is from.
    """

    def __init__(self, raw: str, offset: int, number: int) -> None:
        """Take the line as it was written.

        Args:
            raw: Its characters.
            offset: Where it starts in the whole text.
            number: Its number, from 1.
        """
        self.number = number
        self._raw = raw
        self._offset = offset
        self._rows = [0]  # where each of the lines that it was joined of starts in `raw`
        self._seen_at: list[int] = []  # index in `text` and index in `raw` of the starts of what is seen, in a row
        self._raw_at: list[int] = []
        self.text = raw
        if _UNUSUAL.search(raw):
            self._hide()

    @classmethod
    def joined(cls, lines: list[VisibleLine]) -> VisibleLine:
        """The line that follows each other's make."""
        joined = cls("".join(line._raw for line in lines), lines[0]._offset, lines[0].number)
        for line in lines[:-1]:
            joined._rows.append(joined._rows[-1] + len(line._raw))
        return joined

    def _hide(self) -> None:
        pieces, num_seen, start = [], 0, 0
        for match in _HIDDEN.finditer(self._raw):
            if match.start() > start:
                self._seen_at.append(num_seen)
                self._raw_at.append(start)
                pieces.append(self._raw[start : match.start()])
                num_seen += match.start() - start
            start = match.end()
        self._seen_at.append(num_seen)
        self._raw_at.append(start)
        self.text = "".join([*pieces, self._raw[start:]]).translate(_AS_SPACES)

    def place(self, index: int) -> Place:
        """Where a character stands."""
        if len(self._rows) == 1 and not self._seen_at:
            return Place(self._offset + index, self.number, index + 1)
        raw = self._raw_index(index)
        row = bisect_right(self._rows, raw) - 1
        return Place(self._offset + raw, self.number + row, raw - self._rows[row] + 1)

    def end_offset(self, index: int) -> int:
        """The offset after the character before an index."""
        return self._offset + self._raw_index(index - 1) + 1

    def shown(self, start: int, end: int) -> str:
        """What stands between two indexes, as it should be shown. Linear in its length."""
        if not self._seen_at or start >= end:
            return self.text[start:end]
        first, last = self._raw_index(start), self._raw_index(end - 1) + 1
        stop = self._raw_index(end) if end < len(self.text) else len(self._raw)
        pieces = []
        for match in _HIDDEN.finditer(self._raw, first, stop):
            pieces += [self._raw[first : match.start()], self._kept(match)]
            first = match.end()
        return "".join([*pieces, self._raw[first:last]]) if first < last else "".join(pieces)

    def _raw_index(self, index: int) -> int:
        if not self._seen_at:
            return index
        piece = bisect_right(self._seen_at, index) - 1
        return self._raw_at[piece] + index - self._seen_at[piece]

    def _kept(self, match: re.Match[str]) -> str:
        """What of hidden characters in a row changes how their neighbors look."""
        start, end = match.span()
        if not match["characters"] or end - start > _MOST_KEPT:
            return ""
        before, after = self._raw[max(0, start - 1) : start], self._raw[end : end + 1]
        return "".join(character for character in match.group() if _shows(character, before or " ", after or " "))


def _shows(character: str, before: str, after: str) -> bool:
    """Whether a hidden character shows between two that are not hidden."""
    if character in _JOINERS:
        return _takes_joiners(before) and _takes_joiners(after)
    if "\ufe00" <= character <= "\ufe0f":
        return after == _KEYCAP or before in _PICTURES_IN_TEXT or unicodedata.category(before) in ("So", "Sm")
    if "\U000e0020" <= character <= "\U000e007f":  # the flags of England, Scotland and Wales
        return before == _BLACK_FLAG
    if "\U000e0100" <= character <= "\U000e01ef":
        return unicodedata.category(before) == "Lo"
    if "\u180b" <= character <= "\u180f":
        return "\u1800" <= before <= "\u18af"
    return character in _NUMBER_SIGNS and after.isalnum() and not after.isascii()


def _takes_joiners(character: str) -> bool:
    is_of_script = "\u0600" <= character <= "\u109f" or "\u1780" <= character <= "\u1cff"
    return is_of_script or unicodedata.category(character) in ("So", "Sk")
