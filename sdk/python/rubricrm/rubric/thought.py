"""Marks that open and close a thought, in the forms that published models write.

<think>, <thinking lang="en">, </reasoning>, <seed:think>, [THINK], <|begin_of_thought|>, <|START_THINKING|>, a wedge in
place of the angle, and the channels of gpt-oss.
"""

from __future__ import annotations

import re

from rubricrm.rubric.lazy_pattern import lazy_pattern

_WORD = (
    r"(?:think(?:ing)?|thoughts?|thought[_-]process|reason(?:ing)?(?:[_-](?:content|process))?|analysis"
    r"|scratch[_-]?pad|reflection|deliberation|planning|chain[_-]of[_-]thought|cot|(?:inner|internal)[_-]\w{1,12})"
)
_NAME = rf"(?:\w{{1,12}}:)?{_WORD}"
# Patterns without groups of their own, to be read without regard to case.
OPENING = (
    rf"(?:<|&lt;)\s?{_NAME}(?:\s[^<>]{{0,200}}|/)?(?:>|&gt;)"
    rf"|<\|(?:(?:begin|start)_(?:of_)?)?{_WORD}\|>|\[(?:THINK(?:ING)?|REASONING)\]|◁think(?:ing)?▷"
)
CLOSING = (
    rf"(?:<|&lt;)\s?/\s?{_NAME}\s?(?:>|&gt;)"
    rf"|<\|(?:/|end_(?:of_)?){_WORD}\|>|\[/(?:THINK(?:ING)?|REASONING)\]|◁/think(?:ing)?▷"
)
_CHANNEL = rf"<\|?channel\|?>\s*{_WORD}\b"
_MARK = lazy_pattern(rf"(?P<closing>{CLOSING})|(?:{OPENING})(?<!/>)|{_CHANNEL}", re.IGNORECASE)
_NAMED = lazy_pattern(r"(?P<opening><\|(?:begin|start)_|[<\[◁])(?P<rest>[\w:|-]*[>\]▷])", re.IGNORECASE)
_OPPOSITES = {"<|begin_": "<|end_", "<|BEGIN_": "<|END_", "<|start_": "<|end_", "<|START_": "<|END_"}


def closing_mark(text: str) -> str | None:
    """The mark that closes the thought which a text leaves open; None where it opens none, or in another way."""
    if not leaves_open(text):
        return None
    opened = list(re.finditer(OPENING, text, re.IGNORECASE))
    match = _NAMED.match(opened[-1].group()) if opened else None
    if match is None or (match["opening"] == "<" and match["rest"].startswith("|")):
        return None
    opening = match["opening"]
    return _OPPOSITES.get(opening, f"{opening}/") + match["rest"]


def until_closing(mark: str) -> str:
    """A regular expression for a thought up to the first closing mark, and the white space after it.

    It has no look-ahead: after the mark's first character, which is in it once, come what it begins with and another
    character.
    """
    first, rest = re.escape(mark[0]), mark[1:]
    begun = [re.escape(rest[:length]) for length in range(len(rest))]
    again = f"{first}(?:(?:{'|'.join(begun)}){first})*"
    other = "|".join(f"{start}[^{first}{re.escape(rest[length])}]" for length, start in enumerate(begun))
    return rf"(?:[^{first}]|{again}(?:{other}))*{again}{re.escape(rest)}[ \n]*"


def leaves_open(text: str) -> bool:
    """Whether a text opens a thought and does not close it; it is linear in the text's length."""
    marks = list(_MARK.finditer(text))
    return bool(marks) and marks[-1]["closing"] is None
