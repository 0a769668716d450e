"""Marks that open and close a thought, in the forms that published models write.

<think>, <thinking lang="en">, </reasoning>, <seed:think>, [THINK], <|begin_of_thought|>, <|START_THINKING|>, a wedge in
place of the angle, and the channels of gpt-oss.
"""

from __future__ import annotations

import re

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
_MARK = re.compile(rf"(?P<closing>{CLOSING})|(?:{OPENING})(?<!/>)|{_CHANNEL}", re.IGNORECASE)


def leaves_open(text: str) -> bool:
    """Whether a text opens a thought and does not close it; it is linear in the text's length."""
    marks = list(_MARK.finditer(text))
    return bool(marks) and marks[-1]["closing"] is None
