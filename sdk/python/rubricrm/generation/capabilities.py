"""What a server turned out to do when a model was connected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Capabilities:
    """What was asked for at the server and what it answered; `RubricModel.capabilities` has it.

    Attributes:
        server: The server's address.
        model: The model's name there.
        dialect: The row of the table of dialects.
        dialect_version: The version of that server for which the row was read or run.
        context_length: Most tokens that prompt and answer have together.
        same_ids: Whether the server makes the same ids of a text with hostile characters; None: it does not tell ids.
        constraint: The form in which it takes a grammar, tried out: "regex", "gbnf", or "name": that of rubrics alone;
            None: it takes none.
        logprobs: Whether log-probabilities can be asked for: with the ids of their tokens.
        priority: Whether requests tell their priority. Whether it is heeded, the server decides.
        token_ids: Whether it says which tokens it wrote.
        cached_tokens: Whether it says how much of a prompt it did not compute again.
    """

    server: str
    model: str
    dialect: str
    dialect_version: str
    context_length: int
    same_ids: bool | None
    constraint: str | None
    logprobs: bool
    priority: bool
    token_ids: bool
    cached_tokens: bool

    def to_dict(self) -> Mapping[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)
