"""The issues of a rubric while it is read."""

from __future__ import annotations

from rubricrm.rubric.criterion import Issue

QUOTED_CHARACTERS = 48


class Report:
    """Collects issues, in any order."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def add(self, code: str, line: int, message: str) -> None:
        """Report one deviation."""
        self.issues.append(Issue(code, line, message))

    def has(self, code: str) -> bool:
        """Whether such a deviation was reported."""
        return any(issue.code == code for issue in self.issues)

    def in_order(self) -> list[Issue]:
        """The issues by line, then code."""
        return sorted(self.issues, key=lambda issue: (issue.line, issue.code))


def quote(text: str) -> str:
    """A text in quotes, shortened, for a message."""
    text = " ".join(text[: 2 * QUOTED_CHARACTERS].split())
    return f'"{text[:QUOTED_CHARACTERS]}…"' if len(text) > QUOTED_CHARACTERS else f'"{text}"'
