"""Ends a text at the first of several strings, while it is still being written."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Ends a text before the stop string that begins first, whatever the pieces in which the text arrives.

    The end of the text is held back while it may be the beginning of a stop string. A complete one waits too, while
    another that begins before it may still become complete.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""
        self.found: str | None = None

    def push(self, piece: str) -> str:
        """Take more text, return what is certain not to belong to a stop string. After a find, nothing follows."""
        if self.found is not None:
            return ""
        text = self._held + piece
        certain = len(text) - max((_overlap(text, s) for s in self._strings), default=0)
        return self._split(text, certain)

    def finish(self) -> str:
        """Return what was held back: the text ended. Sets `found` if a complete stop string was waiting in it."""
        return self._split(self._held, len(self._held))

    def _split(self, text: str, certain: int) -> str:
        """Return the text up to a stop string that begins at `certain` at the latest, else all before `certain`."""
        hits = [(at, -len(s), s) for s in self._strings if (at := text.find(s)) >= 0]
        at, _, found = min(hits, default=(len(text), 0, None))
        if found is not None and at <= certain:
            self._held, self.found = "", found
            return text[:at]
        self._held = text[certain:]
        return text[:certain]


def _overlap(text: str, string: str) -> int:
    """Return the length of the longest end of `text` that begins `string`."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
