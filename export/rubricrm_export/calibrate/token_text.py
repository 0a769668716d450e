"""Token sequences: what calibration and evaluation run on."""

from __future__ import annotations

import hashlib
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
            ValueError: It is something else, or was changed since.
        """
        try:
            document = json.loads(text)
            read = cls(str(document["name"]), tuple(document["prefix"]), tuple(map(tuple, document["sequences"])))
            stated = document["sha256"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"no token sequences ({error!r})") from error
        if not all(type(token) is int and token >= 0 for token in read.token_ids):
            raise ValueError("not all tokens are ids")
        if stated != read.sha256:
            raise ValueError("its hash is of other token sequences")
        return read

    def to_json(self) -> str:
        """Return the sequences as JSON, with their hash."""
        return json.dumps({**self._document(), "sha256": self.sha256})

    @property
    def sha256(self) -> str:
        """The hash of name and sequences, in hexadecimal."""
        return hashlib.sha256(json.dumps(self._document()).encode()).hexdigest()

    def _document(self) -> dict[str, object]:
        return {"name": self.name, "prefix": self.prefix, "sequences": self.sequences}

    def require_fitting(self, num_tokens: int, context_length: int) -> None:
        """Check sequences that a file kept against the model that is to run them.

        Raises:
            ValueError: There are none, an id is not below `num_tokens`, or one is longer than the model's context.
        """
        if not self.sequences or not all(self.sequences):
            raise ValueError("a sequence is empty, or there is none")
        if max(self.token_ids) >= num_tokens:
            raise ValueError(f"it holds the id {max(self.token_ids)}, the tokenizer has {num_tokens}")
        longest = len(self.prefix) + max(map(len, self.sequences))
        if longest > context_length:
            raise ValueError(f"it holds a sequence of {longest} tokens, the model takes {context_length}")

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
