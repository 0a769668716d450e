"""What stands around the items and belongs to none: code fences, tags such as <rubric>, the marks of a quotation."""

from __future__ import annotations

import re

from rubricrm.rubric.lazy_pattern import lazy_pattern

_FENCE = r"(?:`{3,8}|~{3,8})"
_NAMES = (
    r"(?:rubrics?|answer|output|response|result|final(?:_answer)?|criteria|criterion|items?|rules?|list|ol|ul|li|p|div"
    r"|pre|body|html)"
)
_ATTRIBUTES = r"(?:\s[^<>]{0,99})?"
_LEADING = lazy_pattern(rf"(?:{_FENCE}(?:[a-z]+(?=\s*$))?|</?{_NAMES}{_ATTRIBUTES}/?>|>(?=\s))\s*", re.IGNORECASE)
_TRAILING = lazy_pattern(rf"(?:{_FENCE}|</?{_NAMES}\s*/?>)$", re.IGNORECASE)
_ALONE = lazy_pattern(rf"(?:</?[a-z][\w:.-]{{0,40}}{_ATTRIBUTES}/?>\s*)+", re.IGNORECASE)
_LONGEST = 24


def strip_wrappers(text: str, start: int, end: int) -> tuple[int, int, list[str]]:
    """The bounds of the text inside fences and wrapper tags, and what was taken off."""
    found: list[str] = []
    if start < end and text[start] not in "<`~>" and text[end - 1] not in ">`~":
        return start, end, found
    while match := _LEADING.match(text, start, end):
        found.append(match.group().strip())
        start = match.end()
    while match := _TRAILING.search(text, max(start, end - _LONGEST), end):
        found.append(match.group())
        end = match.start()
        while end > start and text[end - 1].isspace():
            end -= 1
    return start, end, found


def is_wrapper_alone(text: str) -> bool:
    """Whether a line holds nothing but tags of any name."""
    return text.startswith("<") and _ALONE.fullmatch(text) is not None


def wrapper_code(wrapper: str) -> str:
    """The issue that a wrapper is."""
    return "code_fence" if wrapper[0] in "`~" else "wrapper"
