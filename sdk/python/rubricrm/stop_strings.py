"""Ends a text at the first of several strings, while it is still being written."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Holds back the end of the text while it may be the beginning of a stop string."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""
        self.found: str | None = None

    def push(self, piece: str) -> str:
        """Take more text, return what is certain not to belong to a stop string. After a find, nothing follows."""
        if self.found is not None:
            return ""
        text = self._held + piece
        hits = [(at, -len(s), s) for s in self._strings if (at := text.find(s)) >= 0]
        if hits:
            at, _, self.found = min(hits)
            self._held = ""
            return text[:at]
        keep = max((_overlap(text, s) for s in self._strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """Return what was held back: the text ended without a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """Return the length of the longest end of `text` that begins `string`."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
