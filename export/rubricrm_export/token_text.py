"""Token sequences: what calibration and evaluation run on."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 512  # tokens in a sequence of plain text


@dataclass(frozen=True)
class TokenText:
    """Token sequences that may share a beginning.

    Attributes:
        name: "self", "held-out", or a file's name.
        prefix: Ids that stand before every sequence; they are run once. Empty for plain text.
        sequences: The ids after the prefix. Each is a sequence of its own, at the positions after the prefix.
    """

    name: str
    prefix: tuple[int, ...]
    sequences: tuple[tuple[int, ...], ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences, those of the prefix once."""
        return len(self.prefix) + sum(map(len, self.sequences))

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where the prefix, if there is one, and each sequence begin and end among all tokens in a row."""
        spans, start = [], 0
        for ids in (*([self.prefix] if self.prefix else []), *self.sequences):
            spans.append((start, start + len(ids)))
            start += len(ids)
        return spans

    @property
    def token_ids(self) -> list[int]:
        """All tokens in a row, the prefix first."""
        return [token for ids in (self.prefix, *self.sequences) for token in ids]
