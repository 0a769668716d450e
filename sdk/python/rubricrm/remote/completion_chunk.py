"""One event of a stream of `/v1/completions`, as each dialect fills it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rubricrm.generation.sampling import TokenLogprobs
from rubricrm.remote.failures import code_of

# Why a whole text ends, in the word of a server or an engine, and what it is called here; any other word is an error.
WHOLE_REASONS = {"stop": "stop", "length": "length", "repetition": "length"}
_TOKEN_ID = "token_id:"


@dataclass(frozen=True)
class CompletionChunk:
    """What an event says; what it does not say is empty or None.

    Attributes:
        text: More text.
        finish_reason: Why the text ends, in the server's word.
        token_ids: The ids of the text, where the server tells them.
        logprobs: Of these tokens.
        usage: The tokens of the whole generation.
        model: The model that the server says it runs.
        error: The message of an error.
        error_code: The status that the error names.
    """

    text: str = ""
    finish_reason: str | None = None
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
    usage: Mapping[str, Any] | None = None
    model: str | None = None
    error: str | None = None
    error_code: int | None = None


def read_chunk(chunk: Any, num_logprobs: int | None = None) -> CompletionChunk:
    """Read an event of the client, whose types are what the server sent and not what they are declared.

    Args:
        chunk: A `Completion` of the openai package, or a `ChatCompletionChunk`, whose text lies in its delta.
        num_logprobs: How many others than the chosen token were asked for; None: no log-probabilities.

    Raises:
        ValueError: It is no event of a completion.
    """
    if getattr(chunk, "object", None) == "error":
        message = str(getattr(chunk, "message", "an error without a message"))
        return CompletionChunk(error=message, error_code=code_of({"code": getattr(chunk, "code", None)}))
    found, choices = getattr(chunk, "model", None), getattr(chunk, "choices", None)
    model, usage = found if isinstance(found, str) else None, _mapping(getattr(chunk, "usage", None))
    if not choices:
        if choices is None and usage is None:
            raise ValueError(f"an event has neither choices nor usage: {chunk!r:.200}")
        return CompletionChunk(usage=usage, model=model)
    choice = choices[0]
    logprobs = _mapping(getattr(choice, "logprobs", None))
    return CompletionChunk(
        text=_text(choice, "text") or _text(getattr(choice, "delta", None), "content") or "",
        finish_reason=_text(choice, "finish_reason"),
        token_ids=_ids(getattr(choice, "token_ids", None)),
        logprobs=() if num_logprobs is None or not logprobs else _logprobs(logprobs, num_logprobs),
        usage=usage,
        model=model,
    )


def _text(choice: object, name: str) -> str | None:
    value = getattr(choice, name, None)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"a choice has the {name} {value!r:.100}, expected a string")


def _ids(value: object) -> tuple[int, ...] | None:
    return tuple(value) if isinstance(value, list) and all(type(token_id) is int for token_id in value) else None


def _logprobs(found: Mapping[str, Any], count: int) -> tuple[TokenLogprobs, ...]:
    """Read tokens with their ids: llama.cpp's `content`, or vLLM's `tokens` written as "token_id:N"."""
    if isinstance(found.get("content"), list):
        return tuple(
            TokenLogprobs(
                int(entry["id"]),
                float(entry["logprob"]),
                tuple((int(other["id"]), float(other["logprob"])) for other in entry["top_logprobs"][:count]),
            )
            for entry in found["content"]
        )
    tokens: Sequence[str] = found.get("tokens") or ()
    scores: Sequence[float] = found.get("token_logprobs") or ()
    tops: Sequence[Mapping[str, float] | None] = found.get("top_logprobs") or (None,) * len(tokens)
    return tuple(
        TokenLogprobs(_id_of(token), float(score), _best(top or {}, count))
        for token, score, top in zip(tokens, scores, tops, strict=True)
    )


def _best(top: Mapping[str, float], count: int) -> tuple[tuple[int, float], ...]:
    """The most probable tokens; vLLM adds the chosen one where it is not among them."""
    ordered = sorted(top.items(), key=lambda pair: -pair[1])
    return tuple((_id_of(token), float(score)) for token, score in ordered[:count])


def _id_of(token: str) -> int:
    if not token.startswith(_TOKEN_ID):
        raise ValueError(f"a log-probability is of {token!r:.40}, expected the token's id")
    return int(token.removeprefix(_TOKEN_ID))


def _mapping(value: Any) -> Mapping[str, Any] | None:
    """Return an object of the client's, or of JSON, as a mapping; None for anything else."""
    if value is None or isinstance(value, Mapping):
        return value
    dumped = value.model_dump() if hasattr(value, "model_dump") else None
    return dumped if isinstance(dumped, Mapping) else None
