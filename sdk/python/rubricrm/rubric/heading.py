"""Lines that are no items: headings that name a kind, other headings, titles of items, ruled lines."""

from __future__ import annotations

import re
from typing import NamedTuple

from rubricrm.rubric.criterion import Kind
from rubricrm.rubric.lazy_pattern import lazy_pattern
from rubricrm.rubric.mark import Mark
from rubricrm.rubric.numeral import HAN
from rubricrm.rubric.phrase import ends_sentence
from rubricrm.rubric.tag import NAME, kind_of, may_name_kind, says_response

_NO_WORD = r"(?:[^\w(（\[［【{<]|_)*+"
_ORDINAL = (
    r"(?:(?:part|section|category|group)\s+\w{1,5}\s*+[-–—:：.]*\s*+|第\w{1,3}[部章节節]分?[\s:：、]*"
    rf"|(?:\d{{1,3}}|[ivxlc]{{1,5}}|[a-z]|[{HAN}]{{1,3}})[.)）、:：]\s*+)"
)
_KIND_HEADING = lazy_pattern(
    rf"(?P<lead>{_NO_WORD}(?:<[a-z][a-z0-9]{{0,9}}(?:\s[^<>]{{0,60}})?>\s*)?{_NO_WORD}{_ORDINAL}?{_NO_WORD})"
    rf"(?:the\s+|list\s+of\s+|all\s+)?{NAME}(?P<tail>(?:\s+(?:section|criteria|items|list)|部分|类|類)?\s*"
    r"(?:[(（\[][^()（）\[\]]{0,60}[)）\]])?(?:\s*[-–—:：]?\s*[x×]?\d{1,3}(?:\s+(?:items?|rules?|criteria|in\stotal))?)?"
    r"(?:\s*</[a-z][a-z0-9]{0,9}>)?(?:[^\w]|_)*)",
    re.IGNORECASE,
)
_LONGEST_KIND_HEADING = 160
# "Principles - good practice in general": a heading that explains itself.
_EXPLAINED = lazy_pattern(rf"{_NO_WORD}{NAME}[*_]{{0,3}}\s*[-–—:：][*_\s]*(?P<words>\w.*)", re.IGNORECASE)
_MARKDOWN_HEADING = lazy_pattern(r"#{1,6}\s|<h[1-6][\s>]|={2,}\s*\w", re.IGNORECASE)
_ALL_BOLD = lazy_pattern(r"(?P<markup>\*{2,3}|__)(?!\s)[^*_]{1,120}(?P=markup)\s*[:：]?$")
_ORDINAL_TITLE = lazy_pattern(
    rf"(?:part|section)\s+\w{{1,5}}\s*[:：.]|(?:[IVXLC]{{1,5}}|[A-Z]|[{HAN}]{{1,3}})[.)）、]\s*\S", re.IGNORECASE
)
_REMARK = lazy_pattern(
    r"[(（]|[*_]{0,3}(?:reason|why|note|rationale|explanation|source|weight|原因|理由|说明)\b", re.IGNORECASE
)
_RULED = lazy_pattern(r"[-=*_~#+|:─━—–\s]{3,}$")
_MOST_TITLE_WORDS = 8
_LONGEST_TITLE = 120
_MOST_EXPLANATION_WORDS = 14


class Heading(NamedTuple):
    """A line that names a kind; adorned where mark-up, a number, a colon or a count shows that it is a heading."""

    kind: Kind
    is_adorned: bool


def read_heading(text: str, mark: Mark) -> Heading | None:
    """The heading that a line is: `### Hard Rules (3)`, `**Principles**`, `II. Principles:` or `Hard Rules`."""
    if len(text) > _LONGEST_KIND_HEADING or mark.kind is not None or not may_name_kind(text):
        return None
    match = _KIND_HEADING.fullmatch(text, mark.end)
    if match is not None:
        lead, tail = match["lead"].strip(), match["tail"].strip()
        return Heading(kind_of(match), mark.end > 0 or lead != "" or tail != "")
    match = _EXPLAINED.fullmatch(text, mark.end)
    if match is None or (match["hard_rule"] or match["principle"]).lower()[-1:] != "s":
        return None
    is_short = len(match["words"].split()) <= _MOST_EXPLANATION_WORDS
    return Heading(kind_of(match), True) if is_short and not says_response(match["words"]) else None


def is_markdown_heading(text: str) -> bool:
    """Whether the line is a heading of any wording."""
    return _MARKDOWN_HEADING.match(text) is not None


def is_section(text: str) -> bool:
    """Whether a line without mark and tag is set as the heading of a section.

    That is a Markdown heading, a line all in bold, a few words before a colon or after an ordinal such as "II.".
    """
    if is_markdown_heading(text):
        return True
    if len(text) > _LONGEST_TITLE or ends_sentence(text) or says_response(text):
        return False
    is_label = text.endswith((":", "：")) or _ORDINAL_TITLE.match(text) is not None
    return (is_label and len(text.split()) <= _MOST_TITLE_WORDS) or _ALL_BOLD.match(text) is not None


def is_title(words: str, line: str) -> bool:
    """Whether the words of an item's first line may be the title of what follows: a few words that are no sentence."""
    if len(words) > _LONGEST_TITLE or ends_sentence(words) or says_response(words):
        return False
    num_words = len(words.split())
    return num_words > 0 and (num_words <= _MOST_TITLE_WORDS or is_set_title(words, line))


def is_set_title(words: str, line: str) -> bool:
    """Whether a title is set as one: its line is a Markdown heading, or all of it is bold."""
    return is_markdown_heading(line) or _ALL_BOLD.match(words.strip()) is not None


def is_title_of(words: str, line: str, following: str) -> bool:
    """Whether a set title ends with its line; the words of a Markdown heading may go on in the next line."""
    if not is_markdown_heading(line):
        return is_set_title(words, line)
    first = following.lstrip("*_ ")[:1]
    has_no_case = words.upper() == words.lower()
    return first.isupper() or (has_no_case and not first.islower())


def is_remark(text: str) -> bool:
    """Whether a line in parentheses, or after a label such as "Reason:", is about an item and no part of it."""
    return _REMARK.match(text) is not None


def is_ruled(text: str) -> bool:
    """Whether the line is a rule across the page, or one of a table."""
    return _RULED.match(text) is not None
