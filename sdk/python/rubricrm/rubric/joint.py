"""Where a line that holds several items falls apart."""

from __future__ import annotations

import re

from rubricrm.rubric.mark import Mark, read_mark
from rubricrm.rubric.numeral import ENCLOSED, HAN
from rubricrm.rubric.phrase import ends_sentence
from rubricrm.rubric.tag import JOINT, MOST_JOINTS, Tag, find_tags, says_response, skip_tag

_ESCAPED_BREAK = r"(?:\\{1,2}[nr]|<br\s*/?>|</(?:p|li|div)>|&\#1[03];)"
# What a numeral starts with; whether it is one is for `read_mark` to say.
_NUMERAL = (
    rf"[*_`(（\[\#-]{{0,4}}\s?(?:\d|[{ENCLOSED}]|[A-Za-z]{{1,5}}[.)）]|[{HAN}]{{1,3}}[、.．)）]|第"
    r"|(?:Criterion|Rule|Item|Principle|Hard)\s)"
)
_BREAK = re.compile(
    rf"""(?P<sentence>[.!?…。！？:：]["'”’)*_]{{0,3}}\s++(?={_NUMERAL}))"""
    rf"|(?:\s*+{_ESCAPED_BREAK})++\s*+(?={_NUMERAL}|\#|[Tt]he\sresponse)"
)
_JOINT = re.compile(JOINT, re.IGNORECASE)
# After half a sentence, a tag and a comma the sentence may go on; after one of these it does not.
_HARD_JOINT = re.compile(rf"[|;；•·‣◦▪●]|{_ESCAPED_BREAK}")
_SHORTEST_BREAK = len("A: 1. B")


class _Place:
    """A position where an item may start, with the tag or the break before it."""

    def __init__(self, position: int, tag: Tag | None, next_tag: Tag | None, *, is_line_break: bool = False) -> None:
        self.position = position
        self.tag = tag
        self.next_tag = next_tag
        self.is_line_break = is_line_break


def item_starts(text: str, last: int) -> list[int]:
    """Where the items of one line start; the first is 0, whether or not an item starts there.

    After a tag a number starts an item, and so does "The response", and any sentence that has a tag of its own: two
    sentences with two tags are two items. Without a tag an item takes the very next number, and "The response" or a tag
    after it: "needs version 2. The response ..." goes on. The cost is linear.

    Args:
        text: The line.
        last: The number of the item before it.
    """
    starts = [0]
    if len(text) < _SHORTEST_BREAK:
        return starts
    mark = read_mark(text, last + 1)
    number = last if mark.number is None else mark.number
    content = mark.end
    for place in _places(text, content):
        if place.tag is not None:
            place.position = _skip_joint(text, place.tag.end, number + 1)
        mark = read_mark(text, number + 1, place.position)
        if place.position > content and _starts_item(text, place, mark, content, number):
            starts.append(place.position)
            number = number if mark.number is None else mark.number
            content = mark.end
    return starts


def _places(text: str, content: int) -> list[_Place]:
    tags = find_tags(text, content)
    followers: list[Tag | None] = [*tags[1:], None]
    places = [_Place(tag.end, tag, follower) for tag, follower in zip(tags, followers, strict=False)]
    places += [_Place(match.end(), None, None, is_line_break=not match["sentence"]) for match in _BREAK.finditer(text)]
    return sorted(places, key=lambda place: place.position)


def _skip_joint(text: str, position: int, expected: int) -> int:
    """The position of the next number after a tag, or of the next word."""
    for _ in range(MOST_JOINTS):
        joint = _JOINT.match(text, position)
        if joint is None:
            break
        # "* 2." is a bullet before a number, "**2.**" a number in bold.
        is_alone = joint.group().isspace() or text[joint.end() : joint.end() + 1].isspace()
        if not is_alone and read_mark(text, expected, position).number is not None:
            break
        position = joint.end()
    return position


def _starts_item(text: str, place: _Place, mark: Mark, content: int, number: int) -> bool:
    tag = place.tag
    says = says_response(text, mark.end)
    if tag is None:
        if place.is_line_break and (says or text[place.position] == "#"):
            return True
        opens = says or place.is_line_break or skip_tag(text, mark.end) > mark.end
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
