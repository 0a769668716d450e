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


# Every code a parse can report, and when. Codes are stable; messages are not.
ISSUE_CODES = {
    "code_fence": "a line of ``` or ~~~ around or between the items; left out of the texts",
    "empty_item": "a number or bullet without text; it is no criterion",
    "heading": "a line that names a kind for the items below it; they take it where they have no tag (see tag_style)",
    "joined_line": "several items on one line",
    "missing_tag": "an item that says nowhere which kind it is",
    "nested_list": "a list inside an item (its lines are in the text), or after the item's tag (they are in no text)",
    "no_criteria": "nothing in the text is a criterion",
    "not_the_response": 'a criterion that does not start with "The response"',
    "numbering_duplicate": "a number that an earlier item has",
    "numbering_gap": "a number that does not follow the previous one; the first is 1",
    "numbering_style": "an item that does not start with `1. `: another mark, a bullet or none",
    "preamble": "text before the first item",
    "repetition": "criteria that were written before: a text three times, or two neighbors in the same order again",
    "tag_style": "a tag that is not ` [Hard Rule]` or ` [Principle]` at the end of its item, or not its only one",
    "think_block": "a <think> block, or a stray </think>",
    "trailing_text": "text after an item's tag, up to the next item",
    "truncated": "the text was cut: the last item is unfinished, or items after it may be missing",
    "undecodable": "a character that stands for bytes of another encoding, U+FFFD or a lone surrogate",
    "wrapper": "a tag such as <rubric>, </answer> or <|im_end|> around the items",
}
