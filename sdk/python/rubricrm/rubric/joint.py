"""Where a line that holds several items falls apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from rubricrm.rubric.mark import Mark, Style, read_mark
from rubricrm.rubric.numeral import ENCLOSED, HAN
from rubricrm.rubric.phrase import ESCAPED_BREAK, ends_sentence
from rubricrm.rubric.tag import JOINT, MOST_JOINTS, NAME, Tag, find_tags, may_name_kind, says_response, skip_tag

# What a numeral starts with; whether it is one is for `read_mark` to say.
_NUMERAL = (
    rf"[*_`(（\[\#-]{{0,4}}\s?(?:\d|[{ENCLOSED}]|[A-Za-z]{{1,5}}[.)）]|[{HAN}]{{1,3}}[、.．)）]|第"
    r"|(?:Criterion|Rule|Item|Principle|Hard)\s)"
)
_SENTENCE_BREAK = re.compile(rf"""[.!?…。！？:：]["'”’)*_]{{0,3}}\s++(?={_NUMERAL})""")
_LINE_BREAK = re.compile(rf"(?:{ESCAPED_BREAK}\s*+)++")
_ITEM_AHEAD = re.compile(rf"{_NUMERAL}|\#|[Tt]he\sresponse")
_BREAK_AT_END = re.compile(rf"{ESCAPED_BREAK}$")
_LONGEST_BREAK = 12
_MAY_BE_LINE_BREAK = re.compile(r"[\\<&]")
_JOINT = re.compile(JOINT, re.IGNORECASE)
# After half a sentence, a tag and a comma the sentence may go on; after one of these it does not.
_HARD_JOINT = re.compile(rf"[|;；•·‣◦▪●]|{ESCAPED_BREAK}")
_BARE_NUMBER = re.compile(r"(?P<number>\d{1,3})\s+(?=[^\W\d_])")
_NUMBER_AFTER_TAG = re.compile(rf"(?:{JOINT}){{0,{MOST_JOINTS}}}+\d", re.IGNORECASE)
_MARKUP = "*_`~<\"“'‘"
# "Hard Rules: 1. The response ... Principles (2): 3. The response": headings on the line of their items.
_HEADING = re.compile(
    rf"(?:^|(?<=[.!?。！？\]】]))\s*+(?P<heading>[\#*_]{{0,8}}\s?(?=[HP硬原])(?i:{NAME})"
    rf"(?>[*_]{{0,3}}\s?(?:[(（\[]\d{{1,3}}[)）\]])?\s?[:：]?[*_\s]{{0,4}})(?<=[\s:：*_）)]))(?={_NUMERAL})"
)
_SHORTEST_BREAK = len("A: 1. B")


class _Place:
    """A position where an item may start, with the tag or the break before it."""

    def __init__(
        self,
        position: int,
        tag: Tag | None = None,
        next_tag: Tag | None = None,
        *,
        is_break: bool = False,
        is_sure: bool = False,
    ) -> None:
        self.position = position
        self.tag = tag
        self.next_tag = next_tag
        self.is_break = is_break
        self.is_sure = is_sure


class Piece(NamedTuple):
    """A part of a line that may be one item: where it starts, its text, and the mark and the tags in it."""

    start: int
    text: str
    mark: Mark
    tags: list[Tag]


def split_items(text: str, last: int) -> list[Piece]:
    """Cut a line where items start.

    After a tag a number starts an item, and so does "The response", and any sentence that has a tag of its own: two
    sentences with two tags are two items. Without a tag an item takes the very next number, and "The response" or a tag
    after it: "needs version 2. The response ..." goes on. The cost is linear.

    Args:
        text: The line.
        last: The number of the item before it.

    Returns:
        The pieces in order; the first starts at 0, whether or not an item starts there.
    """
    mark = read_mark(text, last + 1)
    tags = find_tags(text, mark.end)
    starts = list(_item_starts(text, mark, tags, last)) if len(text) >= _SHORTEST_BREAK else []
    if not starts:
        return [Piece(0, text, mark, tags)]
    pieces: list[Piece] = []
    for (start, found), (end, _) in pairwise([(0, mark), *starts, (len(text), mark)]):
        piece = text[start : _end_before_breaks(text, start, end)]
        mark_end = found.end - start
        pieces.append(Piece(start, piece, found._replace(end=mark_end), find_tags(piece, mark_end)))
    return pieces


def may_be_joined(piece: Piece) -> bool:
    """Whether a number follows a tag that is not the last one, so that two items may be left in one."""
    return any(_NUMBER_AFTER_TAG.match(piece.text, tag.end) for tag in piece.tags[:-1])


def _end_before_breaks(text: str, start: int, end: int) -> int:
    """The end of a piece without the white space and the escaped breaks after it."""
    while start < end:
        found = _BREAK_AT_END.search(text, max(start, end - _LONGEST_BREAK), end)
        if found is None and not text[end - 1].isspace():
            break
        end = found.start() if found else end - 1
    return end


def _item_starts(text: str, mark: Mark, tags: list[Tag], last: int) -> Iterator[tuple[int, Mark]]:
    number, content = last if mark.number is None else mark.number, mark.end
    for place in _places(text, tags):
        if place.tag is not None:
            place.position = _skip_joint(text, place.tag.end, number + 1)
        if not content < place.position < len(text):
            continue
        mark = _mark_after_tag(text, place, number + 1) or read_mark(text, number + 1, place.position)
        if place.is_sure or _starts_item(text, place, mark, content, number):
            yield place.position, mark
            number, content = number if mark.number is None else mark.number, mark.end


def _mark_after_tag(text: str, place: _Place, expected: int) -> Mark | None:
    """The mark that the next number is without a point, where it follows a tag."""
    match = _BARE_NUMBER.match(text, place.position) if place.tag else None
    if match is None or int(match["number"]) != expected:
        return None
    return Mark(Style.DIGITS, expected, match.end())


def _places(text: str, tags: list[Tag]) -> list[_Place]:
    followers: list[Tag | None] = [*tags[1:], None]
    places = [_Place(tag.end, tag, follower) for tag, follower in zip(tags, followers, strict=False)]
    places += [_Place(match.end()) for match in _SENTENCE_BREAK.finditer(text)]
    if _MAY_BE_LINE_BREAK.search(text):
        ends = [match.end() for match in _LINE_BREAK.finditer(text)]
        places += [_Place(end, is_break=True) for end in ends if _ITEM_AHEAD.match(text, end)]
    if may_name_kind(text):
        for match in _HEADING.finditer(text):
            mark = read_mark(text, 1, match.end())
            if mark.number is not None and mark.end < len(text):
                places += [_Place(match.start("heading"), is_sure=True), _Place(match.end(), is_sure=True)]
    return sorted(places, key=lambda place: place.position)


def _skip_joint(text: str, position: int, expected: int) -> int:
    """The position of the next number after a tag, or of the next word."""
    for _ in range(MOST_JOINTS):
        joint = _JOINT.match(text, position)
        if joint is None:
            break
        # "* 2." is a bullet before a number, "**2.**" a number in bold.
        is_markup = joint.group()[0] in _MARKUP and not text[joint.end() : joint.end() + 1].isspace()
        if is_markup and read_mark(text, expected, position).number is not None:
            break
        position = joint.end()
    return position


def _starts_item(text: str, place: _Place, mark: Mark, content: int, number: int) -> bool:
    tag = place.tag
    says = says_response(text, mark.end)
    if tag is None:
        if skip_tag(text, content) >= place.position:
            return False
        if place.is_break and (says or text[place.position] == "#"):
            return True
        opens = says or place.is_break or skip_tag(text, mark.end) > mark.end
        return mark.number == number + 1 and (opens or (number == 0 and content == 0))
    if mark.number is not None:
        return True
    if tag.start <= content:
        return False
    is_ended = ends_sentence(text, tag.start)
    return (is_ended and says) or _has_own_tag(text, place, tag, is_ended=is_ended)


def _has_own_tag(text: str, place: _Place, tag: Tag, *, is_ended: bool) -> bool:
    """Whether what follows a tag is a sentence with another tag."""
    following = place.next_tag
    if following is None or not text[place.position : following.start].strip():
        return False
    if is_ended:
        return ends_sentence(text, following.start)
    return _HARD_JOINT.search(text, tag.end, place.position) is not None
