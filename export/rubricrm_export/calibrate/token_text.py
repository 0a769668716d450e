"""Token sequences: what calibration and evaluation run on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from rubricrm.errors import OptionInvalid

WINDOW = 512  # tokens in a sequence of plain text
SELF = "self"  # the name of a text that the model wrote itself


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

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        try:
            document = json.loads(text)
            return cls(str(document["name"]), tuple(document["prefix"]), tuple(map(tuple, document["sequences"])))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no token sequences ({error!r})") from error

    def to_json(self) -> str:
        """Return the sequences as JSON."""
        return json.dumps({"name": self.name, "prefix": self.prefix, "sequences": self.sequences})

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


def check_context(text: TokenText, context: int, where: str) -> int:
    """Return the longest sequence's length, prefix included.

    Raises:
        OptionInvalid: It is more than the model's context.
    """
    length = len(text.prefix) + max(map(len, text.sequences), default=0)
    if length > context:
        raise OptionInvalid(
            f"{text.name}: holds a sequence of {length} tokens, {where} takes {context}. Give a shorter text."
        )
    return length
