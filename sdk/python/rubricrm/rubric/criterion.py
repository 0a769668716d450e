"""One line of a rubric, and what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a criterion is: explicit in the request, or good practice derived from it."""

    HARD_RULE = "hard_rule"
    PRINCIPLE = "principle"

    @property
    def tag(self) -> str:
        """The tag that ends a canonical line."""
        return "[Hard Rule]" if self is Kind.HARD_RULE else "[Principle]"


@dataclass(frozen=True, slots=True)
class Span:
    """Where a criterion stands in the text, from its number to the end of its tag.

    Attributes:
        start: Offset of its first character.
        end: Offset after its last character.
        line: Line of the start, from 1; 0 where the criterion came from no text.
        column: Column of the start in characters, from 1; 0 where the criterion came from no text.
    """

    start: int
    end: int
    line: int
    column: int


UNPLACED = Span(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One item of a rubric. Two are equal when number, text and kind are, wherever they stand.

    Attributes:
        number: As written in the text; None where none was.
        text: Without number and tag, wrapped lines joined by one space.
        kind: None where the text did not say.
        span: Where it stands in the text.
    """

    number: int | None
    text: str
    kind: Kind | None
    span: Span = field(default=UNPLACED, compare=False)


@dataclass(frozen=True, slots=True)
class Issue:
    """One deviation from the canonical form.

    Attributes:
        code: One of `ISSUE_CODES`.
        line: From 1.
        message: For a person, with a shortened quote.
    """

    code: str
    line: int
    message: str


# The code that no parse reports: a server was asked for the form.
UNCONSTRAINED = "unconstrained"
# Every code that can be reported, and when. Codes are stable; messages are not.
ISSUE_CODES = {
    "code_fence": "a line of ``` or ~~~ around or between the items; left out of the texts",
    "empty_item": "a number or bullet without text; it is no criterion",
    "heading": "a line that names a kind for the untagged items below it, or a title; in no text",
    "joined_line": "several items on one line, or what may be several",
    "missing_tag": "an item that says nowhere which kind it is",
    "nested_list": "a list inside an item (its lines are in the text), or after the item's tag (they are in no text)",
    "no_criteria": "nothing in the text is a criterion",
    "not_the_response": 'a criterion that does not start with "The response"',
    "numbering_duplicate": "a number that an earlier item has",
    "numbering_gap": "a number that does not follow the previous one; the first is 1",
    "numbering_style": "an item that does not start with `1. `: another mark, a bullet or none",
    "preamble": "text before the first item",
    "repetition": "a list that repeats itself: a text three times, two neighbors again, or words in circles",
    "tag_style": "a kind that is not from ` [Hard Rule]` or ` [Principle]` alone at the end of its item",
    "think_block": "a thought: a `<think>` block or its like, or what stands before a lone `</think>`; in no text",
    "trailing_text": "text after an item's tag, up to the next item, or after the end of the answer",
    "truncated": "the text was cut: the last item is unfinished, or items after it may be missing",
    UNCONSTRAINED: "a line that is not in the form to which a server was to hold the rubric; no parse reports it",
    "undecodable": "a character that stands for bytes of another encoding, U+FFFD or a lone surrogate",
    "wrapper": "a tag around the items, such as `<rubric>`, or a control token, which ends the answer",
}
