"""A judge's text -> `Judgment`: which answer it names, or why that is no vote. Standard library only.

The judges of the family end their text with a line `Winner: Response A` or `Winner: Response B`. This reader takes
that line alone: the last one, outside of quotations and code. A judge quotes answers, and answers may hold such a line
too. So a text that could be read in two ways names no winner: a lost vote is reported, a bogus one is not noticed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from rubricrm.rubric.lazy_pattern import lazy_pattern
from rubricrm.rubric.thought import CLOSING, OPENING

Choice = Literal["A", "B"]

# Why a text names no winner.
ISSUES = {
    "truncated": "the text was cut before its end, by a limit or a deadline",
    "open_thought": "the text begins with a thought that never ends",
    "open_code": "a code fence is not closed: what follows it may be quoted",
    "no_winner": 'no line begins with "Winner:", quotations and code apart',
    "placeholder": "the last such line holds the placeholder of the prompt",
    "unknown_winner": "the last such line names neither Response A nor Response B, or more than that",
    "contradiction": "such lines name both answers",
    "text_after_winner": "other text follows the last such line",
}

# Three spaces of indentation at most: what is indented further is code in Markdown. A heading's marks and those of
# emphasis may stand around the word.
_WINNER = lazy_pattern(r" {0,3}(?:#{1,6}[ \t]+)?[*_]*winner[*_]*[ \t]*:(?P<name>.*)", re.IGNORECASE)
_NAMED = lazy_pattern(r"response\s+([ab])\.?", re.IGNORECASE)
# In brackets, or both names.
_PLACEHOLDER = lazy_pattern(r"\s*(?:[<\[{(]|response\s+(?:[<\[{(]|a\s*(?:/|\||\bor\b)))", re.IGNORECASE)
_GATEKEEPER = lazy_pattern(r" {0,3}[*_]*identified gatekeeper criterion[*_]*[ \t]*:(?P<name>.*)", re.IGNORECASE)
_QUOTED = lazy_pattern(r" {4}| {0,3}\t|[ \t]*>")
_FENCE = lazy_pattern(r"[ \t]*(?P<fence>`{3,}|~{3,})(?P<rest>.*)")
_RULE = lazy_pattern(r"[-*_\s]*")
_THOUGHT = lazy_pattern(rf"\s*(?:{OPENING})", re.IGNORECASE)
_THOUGHT_ENDS = lazy_pattern(CLOSING, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Judgment:
    """What a judge's text says.

    Attributes:
        winner: The answer that it names: "A" is the one the prompt showed first. None: the text is no vote.
        gatekeeper: The criterion that it calls the one which decides first, in its own words; None where it names none.
        text: The whole text, unchanged.
        issues: Keys of `ISSUES`: why there is no winner. Empty exactly where there is one.
    """

    winner: Choice | None
    gatekeeper: str | None
    text: str
    issues: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "winner": self.winner,
            "gatekeeper": self.gatekeeper,
            "issues": list(self.issues),
            "text": self.text,
        }


def parse_judgment(text: str, *, truncated: bool, starts_in_thought: bool = False) -> Judgment:
    r"""Read a judge's text. It never raises, and is linear in the text's length.

    The winner is that of the last line that begins with "Winner:", if this line is the last one but for blank lines and
    ruled ones, names `Response A` or `Response B` and nothing else, and no other such line names the other answer.
    Case, marks of emphasis (`**Winner:** Response A`), a heading's `#` and a full stop make no difference. A line in a
    quotation (`>`), indented as code or between code fences is never read.

    Args:
        text: What the judge wrote, and nothing of its prompt.
        truncated: Whether something else than the judge ended the text. Such a text names no winner, even if its last
            line looks whole.
        starts_in_thought: Whether the prompt has opened a thought.

    Example:
        >>> parse_judgment("--- Final Judgment ---\nWinner: Response A", truncated=False).winner
        'A'
        >>> parse_judgment("Winner: <Response A / Response B>", truncated=False).issues
        ('placeholder',)
    """
    answer = _after_thought(text, starts_in_thought)
    lines = _plain_lines(answer or "")
    gatekeeper = None if lines is None else _gatekeeper(lines)
    winner: Choice | None = None
    issue: str | None = None
    if truncated:
        issue = "truncated"
    elif answer is None:
        issue = "open_thought"
    elif lines is None:
        issue = "open_code"
    else:
        winner, issue = _winner(lines)
    return Judgment(winner, gatekeeper, text, () if issue is None else (issue,))


def _after_thought(text: str, starts_in_thought: bool) -> str | None:
    """Return what follows the thought that a text begins with; None where it does not end."""
    if not starts_in_thought and not _THOUGHT.match(text):
        return text
    end = _THOUGHT_ENDS.search(text)
    return None if end is None else text[end.end() :]


def _plain_lines(text: str) -> list[str | None] | None:
    """Return the lines that are not blank, None for each that is quoted; None for all where a fence is not closed."""
    lines: list[str | None] = []
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            lines.append(None)
            if mark and mark["fence"].startswith(fence) and not mark["rest"].strip():
                fence = ""
        elif mark and not ("`" in mark["fence"] and "`" in mark["rest"]):  # else it is code within a line
            lines.append(None)
            fence = mark["fence"]
        elif not _RULE.fullmatch(line):
            lines.append(None if _QUOTED.match(line) else line)
    return None if fence else lines


def _winner(lines: list[str | None]) -> tuple[Choice | None, str | None]:
    """Return the winner, or the issue that there is none for."""
    names = [(index, match["name"]) for index, line in enumerate(lines) if line and (match := _WINNER.match(line))]
    if not names:
        return None, "no_winner"
    last, name = names[-1]
    winner = _named(name)
    if winner is None:
        return None, "placeholder" if _PLACEHOLDER.match(name) else "unknown_winner"
    if last != len(lines) - 1:
        return None, "text_after_winner"
    if any(_named(other) not in (None, winner) for _, other in names):
        return None, "contradiction"
    return winner, None


def _named(name: str) -> Choice | None:
    match = _NAMED.fullmatch(_without_emphasis(name))
    if match is None:
        return None
    return "A" if match[1] in "aA" else "B"


def _gatekeeper(lines: list[str | None]) -> str | None:
    for line in lines:
        if line and (match := _GATEKEEPER.match(line)):
            name = _without_emphasis(match["name"])
            return None if not name or name.startswith("<") else name
    return None


def _without_emphasis(text: str) -> str:
    return text.replace("**", "").replace("__", "").strip(" \t\r*_")
