"""Where a line that holds several items falls apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from rubricrm.rubric.lazy_pattern import lazy_pattern
from rubricrm.rubric.mark import Mark, Style, read_mark
from rubricrm.rubric.numeral import ENCLOSED, HAN
from rubricrm.rubric.phrase import ESCAPED_BREAK, ends_sentence
from rubricrm.rubric.tag import JOINT, MOST_JOINTS, NAME, Tag, find_tags, may_name_kind, says_response, skip_tag

# What a numeral starts with; whether it is one is for `read_mark` to say.
_NUMERAL = (
    rf"(?:[*_`(（\[\#-]{{1,4}}\s?)?(?:\d|[{ENCLOSED}]|[A-Za-z]{{1,5}}[.)）]|[{HAN}]{{1,3}}[、.．)）]|第"
    r"|(?:Criterion|Rule|Item|Principle|Hard)\s)"
)
_SENTENCE_BREAK = lazy_pattern(
    rf"""[.!?…。！？:：]["'”’)*_]{{0,3}}(?P<joint>(?:{JOINT}){{1,8}}?(?={_NUMERAL}|[\[【(（<*`•-]))"""
)
_LINE_BREAK = lazy_pattern(rf"(?:{ESCAPED_BREAK}\s*+)++")
_ITEM_AHEAD = lazy_pattern(rf"{_NUMERAL}|\#|[Tt]he\sresponse")
_BREAK_AT_END = lazy_pattern(rf"{ESCAPED_BREAK}$")
_LONGEST_BREAK = 12
_MAY_BE_LINE_BREAK = lazy_pattern(r"[\\<&]")
_JOINT = lazy_pattern(JOINT, re.IGNORECASE)
# After half a sentence, a tag and a comma the sentence may go on; after one of these it does not.
_HARD_JOINT = lazy_pattern(rf"[|;；•·‣◦▪●]|{ESCAPED_BREAK}")
_BARE_NUMBER = lazy_pattern(r"(?P<number>\d{1,3})\s+(?=[^\W\d_])")
_NUMBER_AFTER_TAG = lazy_pattern(rf"(?:{JOINT}){{0,{MOST_JOINTS}}}+\d", re.IGNORECASE)
_RESPONSE_AGAIN = lazy_pattern(r"[.!?…。！？][^.!?…。！？]{1,24}?(?<!\w)The response\b")
_MARKUP = "*_`~<\"“'‘"
# "Hard Rules: 1. The response ... Principles (2): 3. The response": headings on the line of their items.
_HEADING = lazy_pattern(
    rf"(?=[HP硬原])(?i:{NAME})(?>[*_]{{0,3}}\s?(?:[(（\[]\d{{1,3}}[)）\]])?\s?[:：]?[*_\s]{{0,4}})(?<=[\s:：*_）)])"
    rf"(?={_NUMERAL})"
)
_HEADING_START = lazy_pattern(r"(?:^|(?<=[.!?。！？\]】]))\s*(?P<heading>[\#*_]{0,8}\s?)$")
_HEADING_LOOKED_AT = 16
_SHORTEST_BREAK = len("A: 1. B")


class _Place(NamedTuple):
    """A position where an item may start, with what is before it: a tag, the end of a sentence or an escaped break."""

    position: int
    end: int  # of the item before it, if one starts here
    tag: Tag | None = None
    next_tag: Tag | None = None
    is_break: bool = False
    is_sure: bool = False


class _Start(NamedTuple):
    """Where an item starts, its mark, and where the one before it ends."""

    position: int
    mark: Mark
    end: int


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
    for start, following in pairwise([_Start(0, mark, 0), *starts, _Start(len(text), mark, len(text))]):
        piece = text[start.position : _end_before_breaks(text, start.position, following.end)]
        mark_end = start.mark.end - start.position
        pieces.append(Piece(start.position, piece, start.mark._replace(end=mark_end), find_tags(piece, mark_end)))
    return pieces


def may_be_joined(piece: Piece) -> bool:
    """Whether two items may be left in one: a number after one of its tags, or two tags and "The response" again."""
    if len(piece.tags) < 2:
        return False
    is_again = _RESPONSE_AGAIN.search(piece.text, piece.mark.end) is not None
    return is_again or any(_NUMBER_AFTER_TAG.match(piece.text, tag.end) for tag in piece.tags[:-1])


def _end_before_breaks(text: str, start: int, end: int) -> int:
    """The end of a piece without the white space and the escaped breaks after it."""
    while start < end:
        found = _BREAK_AT_END.search(text, max(start, end - _LONGEST_BREAK), end)
        if found is None and not text[end - 1].isspace():
            break
        end = found.start() if found else end - 1
    return end


class _Item(NamedTuple):
    """The item that a place is in: its mark, where a tag at its start ends, and the last number so far."""

    mark: Mark
    lead: int
    number: int

    @property
    def has_lead(self) -> bool:
        """Whether a tag opens it, as it will open the next one."""
        return self.lead > self.mark.end


def _item_starts(text: str, mark: Mark, tags: list[Tag], last: int) -> Iterator[_Start]:
    item = _Item(mark, skip_tag(text, mark.end), last if mark.number is None else mark.number)
    tag_starts = {tag.start for tag in tags}
    for place in _places(text, tags):
        if not item.has_lead and place.position in tag_starts:
            continue  # the tag of the sentence before it
        start = _start_after_tag(text, place, place.tag, item) if place.tag else _start_after_break(text, place, item)
        if start is None or not item.mark.end < start.position < len(text):
            continue
        yield start
        mark = start.mark
        item = _Item(mark, skip_tag(text, mark.end), item.number if mark.number is None else mark.number)


def _start_after_tag(text: str, place: _Place, tag: Tag, item: _Item) -> _Start | None:
    position = _skip_joint(text, tag.end, item.number + 1)
    if position == len(text):
        return None
    mark = _mark_after_tag(text, position, item.number + 1) or read_mark(text, item.number + 1, position)
    if mark.number is not None:
        return _Start(position, mark, position)
    if tag.start <= item.mark.end or tag.end <= item.lead:
        return None
    is_ended = ends_sentence(text, tag.start)
    if is_ended and says_response(text, mark.end):
        is_lead = item.has_lead
        return (
            _Start(tag.start, Mark(Style.NONE, None, tag.start), tag.start)
            if is_lead
            else _Start(position, mark, position)
        )
    return _Start(position, mark, position) if _has_own_tag(text, position, place, tag, is_ended=is_ended) else None


def _start_after_break(text: str, place: _Place, item: _Item) -> _Start | None:
    position = place.position
    mark = read_mark(text, item.number + 1, position)
    start = _Start(position, mark, place.end)
    says = says_response(text, mark.end)
    if position <= item.lead and item.has_lead:
        return None
    if place.is_sure or (place.is_break and (says or text[position] == "#")):
        return start
    is_tagged = skip_tag(text, mark.end) > mark.end
    opens = says or place.is_break or is_tagged or (item.number == 0 and item.mark.end == 0)
    is_next = mark.number == item.number + 1 and opens
    is_unnumbered = mark.number is None and not mark.is_none and mark.style is item.mark.style
    is_alike = says and (is_tagged if item.has_lead else is_unnumbered)
    return start if is_next or is_alike else None


def _mark_after_tag(text: str, position: int, expected: int) -> Mark | None:
    """The mark that the next number is without a point, where it follows a tag."""
    match = _BARE_NUMBER.match(text, position)
    if match is None or int(match["number"]) != expected:
        return None
    return Mark(Style.DIGITS, expected, match.end())


def _places(text: str, tags: list[Tag]) -> list[_Place]:
    followers: list[Tag | None] = [*tags[1:], None]
    places = [_Place(tag.end, tag.end, tag, follower) for tag, follower in zip(tags, followers, strict=False)]
    places += [_Place(match.end(), match.start("joint")) for match in _SENTENCE_BREAK.finditer(text)]
    if _MAY_BE_LINE_BREAK.search(text):
        breaks = [match for match in _LINE_BREAK.finditer(text) if _ITEM_AHEAD.match(text, match.end())]
        places += [_Place(match.end(), match.start(), is_break=True) for match in breaks]
    if may_name_kind(text):
        places += _heading_places(text)
    places.sort(key=lambda place: place.position)
    return [place for place, tag in _with_tag_before(places, tags) if tag is None or place.position >= tag.end]


def _with_tag_before(places: list[_Place], tags: list[Tag]) -> Iterator[tuple[_Place, Tag | None]]:
    """Each place with the last tag that starts before it."""
    before, following = None, iter([*tags, None])
    tag = next(following)
    for place in places:
        while tag is not None and tag.start < place.position:
            before, tag = tag, next(following)
        yield place, before


def _heading_places(text: str) -> Iterator[_Place]:
    for match in _HEADING.finditer(text):
        floor = max(0, match.start() - _HEADING_LOOKED_AT)
        before = _HEADING_START.search(text[floor : match.start()])
        mark = read_mark(text, 1, match.end())
        if before is not None and mark.number is not None and mark.end < len(text):
            start = floor + before.start("heading")
            yield _Place(start, start, is_sure=True)
            yield _Place(match.end(), match.end(), is_sure=True)


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


def _has_own_tag(text: str, position: int, place: _Place, tag: Tag, *, is_ended: bool) -> bool:
    """Whether what follows a tag is a sentence with another tag."""
    following = place.next_tag
    if following is None or not text[position : following.start].strip():
        return False
    if is_ended:
        return ends_sentence(text, following.start)
    return _HARD_JOINT.search(text, tag.end, position) is not None
