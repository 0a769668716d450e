"""What sentences look like: how they end, and the two words that open a criterion."""

from __future__ import annotations

import re

from rubricrm.rubric.lazy_pattern import lazy_pattern

# A line break, or white space, that somebody's software spelled out; for patterns.
ESCAPED_BREAK = r"(?:\\{1,2}[nrt]|</?(?:br|p|li|div|ul|ol|tr)\s*/?>|&\#1[03];|&nbsp;)"

_SENTENCE_ENDS = tuple(".!?…。！？｡؟۔।॥։።។")
_SENTENCE_CLOSERS = "\"'`”’»」』)]）*_~"
_CLOSERS_LOOKED_AT = 16

_OPENING_WORDS = lazy_pattern(r"""[*_"“]{0,3}(?:<(?:b|i|u|em|strong)>)?the\s+response\b""", re.IGNORECASE)
# "The response is vivid. [Gut]": a bracket after a full stop is a tag that nobody knows, not a text that was cut.
_UNKNOWN_TAG = lazy_pattern(
    r"""[.!?…。！？]["'”’)*_]{0,3}\s*[*_`]{0,3}[\[［【(（{｛<][^\[\]()<>{}]{1,40}[\]］】)）}｝>][*_`]{0,3}$"""
)
_LONGEST_UNKNOWN_TAG = 56


def opens_response(text: str, start: int = 0) -> bool:
    """Whether "The response" stands at a position, in mark-up or not."""
    return _OPENING_WORDS.match(text, start) is not None


def opens_as_response(text: str) -> bool:
    """Whether the text starts with "The response" and no mark-up."""
    return text[:1] in ("t", "T") and _OPENING_WORDS.match(text) is not None


def ends_sentence(text: str, end: int | None = None) -> bool:
    """Whether the text, or its part before `end`, ends with a full stop or its like, quotes and brackets aside."""
    end = len(text) if end is None else end
    tail = text[max(0, end - _CLOSERS_LOOKED_AT) : end].rstrip()
    return tail.rstrip(_SENTENCE_CLOSERS).rstrip().endswith(_SENTENCE_ENDS)


def ends_with_unknown_tag(text: str) -> bool:
    """Whether the text ends with something in brackets after a whole sentence."""
    return _UNKNOWN_TAG.search(text[-_LONGEST_UNKNOWN_TAG:].rstrip()) is not None
