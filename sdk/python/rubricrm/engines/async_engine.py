"""An engine of somebody else in this process: what it is asked, and what it gives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sampling import TokenLogprobs
from rubricrm.remote.completion_chunk import CompletionChunk


@dataclass(frozen=True)
class EngineRequest:
    """One text that is asked for.

    Attributes:
        prompt_ids: The prompt.
        options: What was asked for.
        seed: The seed, of 31 bits.
        max_new_tokens: Most tokens.
        stop_ids: The ids that end a text.
        regex: The form that the text must have; None: any.
    """

    prompt_ids: list[int]
    options: GenerationOptions
    seed: int
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    regex: str | None


class AsyncEngine(Protocol):
    """Writes texts in an event loop. It belongs to the loop in which it was opened."""

    @property
    def name(self) -> str:
        """Whose it is, with its version."""
        ...

    @property
    def device(self) -> str:
        """Where it computes."""
        ...

    def parameters(self, request: EngineRequest) -> Any:
        """Return the engine's own sampling parameters: every value, whatever its defaults are.

        Raises:
            Exception: The engine refuses a value.
        """
        ...

    def stream(self, request: EngineRequest, parameters: Any) -> AsyncGenerator[CompletionChunk]:
        """Yield the text as it is written; closing the generator, or cancelling who waits for it, ends the request."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


@dataclass
class SeenText:
    """How much of a text that comes whole again and again was handed out already."""

    request: EngineRequest
    text: int = 0
    tokens: int = 0
    logprobs: int = 0

    def chunk(self, output: Any, cached_tokens: int | None) -> CompletionChunk:
        """Return what is new in an output that holds all so far, as both engines describe it."""
        num_logprobs = self.request.options.logprobs
        ids, found = list(output.token_ids), list(output.logprobs or ())
        scores = () if num_logprobs is None else _logprobs(found[self.logprobs :], ids[self.logprobs :], num_logprobs)
        chunk = CompletionChunk(
            text=output.text[self.text :],
            finish_reason=output.finish_reason,
            token_ids=tuple(ids[self.tokens :]),
            logprobs=scores,
            usage={
                "prompt_tokens": len(self.request.prompt_ids),
                "completion_tokens": len(ids),
                "prompt_tokens_details": {"cached_tokens": cached_tokens},
            },
        )
        self.text, self.tokens = max(self.text, len(output.text)), max(self.tokens, len(ids))
        self.logprobs += len(scores)
        return chunk


def _logprobs(entries: Sequence[Any], ids: Iterable[int], count: int) -> tuple[TokenLogprobs, ...]:
    """Read an entry per token: `{id: Logprob}` with the chosen one and the most probable ones."""
    return tuple(
        TokenLogprobs(
            token_id,
            float(entry[token_id].logprob),
            tuple(
                sorted(((other, float(found.logprob)) for other, found in entry.items()), key=lambda p: -p[1])[:count]
            ),
        )
        for entry, token_id in zip(entries, ids, strict=False)  # an end token has an entry, and no id in the text
    )
