"""Lines that are no items: headings that name a kind, other headings, titles of items, ruled lines."""

from __future__ import annotations

import re
from typing import NamedTuple

from rubricrm.rubric.criterion import Kind
from rubricrm.rubric.mark import Mark, Style
from rubricrm.rubric.phrase import ends_sentence
from rubricrm.rubric.tag import NAME, kind_of, says_response

_KIND_HEADING = re.compile(
    r"(?P<lead>[^\w(（\[［【{<]*(?:<[a-z][a-z0-9]{0,9}(?:\s[^<>]{0,60})?>\s*)?[^\w(（\[［【{<]*)"
    r"(?:(?:part|section|category|group)\s+\w{1,5}\s*[-–—:：.]*\s*|第\w{1,3}[部章节節]分?[\s:：、]*|the\s+|list\s+of\s+|all\s+)?"
    rf"{NAME}(?P<tail>(?:\s+(?:section|criteria|items|list)|部分|类|類)?\s*"
    r"(?:[(（\[][^()（）\[\]]{0,60}[)）\]])?(?:\s*[-–—:：]?\s*[x×]?\d{1,3}(?:\s+(?:items|rules|criteria|in\stotal))?)?"
    r"(?:\s*</[a-z][a-z0-9]{0,9}>)?[^\w]*)",
    re.IGNORECASE,
)
_LONGEST_KIND_HEADING = 160
# "Principles - good practice in general": a heading that explains itself.
_EXPLAINED = re.compile(rf"[^\w(（\[［【{{<]*{NAME}[*_]{{0,3}}\s*[-–—:：][*_\s]*(?P<words>\w.*)", re.IGNORECASE)
_MARKDOWN_HEADING = re.compile(r"#{1,6}\s|<h[1-6][\s>]|={2,}\s*\w", re.IGNORECASE)
_ALL_BOLD = re.compile(r"(?P<markup>\*{2,3}|__)(?!\s)[^*_]{1,120}(?P=markup)\s*[:：]?$")
_RULED = re.compile(r"[-=*_~#+|:─━—–\s]{3,}$")
_MOST_TITLE_WORDS = 8
_LONGEST_TITLE = 120
_MOST_EXPLANATION_WORDS = 14


class Heading(NamedTuple):
    """A line that names a kind; adorned where mark-up, a number, a colon or a count shows that it is a heading."""

    kind: Kind
    is_adorned: bool


def read_heading(text: str, mark: Mark) -> Heading | None:
    """The heading that a line is: `### Hard Rules (3)`, `**Principles**`, `II. Principles:` or `Hard Rules`."""
    if len(text) > _LONGEST_KIND_HEADING or mark.kind is not None:
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
    """Whether a line without mark and tag is set as the heading of a section: Markdown, all bold, a few words and a colon."""
    if is_markdown_heading(text):
        return True
    if says_response(text) or ends_sentence(text):
        return False
    is_label = text.endswith((":", "：")) and len(text.split()) <= _MOST_TITLE_WORDS
    return is_label or _ALL_BOLD.match(text) is not None


def is_title(text: str, mark: Mark) -> bool:
    """Whether an item's first line may be the title of what follows: a few words that are no sentence."""
    words = text[mark.end : mark.end + _LONGEST_TITLE + 1].strip()
    if mark.is_none or not 0 < len(words) <= _LONGEST_TITLE or says_response(words) or ends_sentence(words):
        return False
    return len(words.split()) <= _MOST_TITLE_WORDS or is_set_title(text, mark)


def is_set_title(text: str, mark: Mark) -> bool:
    """Whether it is set as a title: a Markdown heading, or all of it bold."""
    return is_markdown_heading(text) or _ALL_BOLD.match(text[mark.end :].strip()) is not None


def is_ruled(text: str) -> bool:
    """Whether the line is a rule across the page, or one of a table."""
    return _RULED.match(text) is not None
