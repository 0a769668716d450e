"""The body of a request to `/v1/completions`: ids and every option, whatever the server's defaults are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rubricrm.errors import OptionInvalid
from rubricrm.generation.options import GenerationOptions
from rubricrm.remote.dialects import Dialect

# Seeds of this package have 64 bits, those of servers 63, 32 or 31.
_SEEDS = 1 << 31


def completion_request(
    dialect: Dialect,
    model: str,
    prompt_ids: Sequence[int],
    options: GenerationOptions,
    *,
    seed: int,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    grammar: str | None = None,
) -> dict[str, Any]:
    """Return the arguments of `completions.create`; what is no standard field lies in `extra_body`.

    Args:
        dialect: The server's.
        model: Its name there.
        prompt_ids: The prompt: ids, so that no text of a user becomes a control token.
        options: What was asked for.
        seed: The seed; servers get its last 31 bits.
        max_new_tokens: Most tokens.
        stop_ids: The ids that end a text.
        grammar: The form that the text must have, in the dialect's own; None: any.

    Raises:
        OptionInvalid: The dialect has no field for an option that is not the default.
    """
    extra = {**dialect.fixed_fields, **_sampling_fields(dialect, options)}
    if dialect.stop_field is not None:
        extra[dialect.stop_field] = list(stop_ids)
    if options.priority and dialect.priority_fields is not None:
        extra |= dialect.priority_fields(options.priority)
    if grammar is not None:
        extra |= dialect.grammar_fields(grammar)
    request: dict[str, Any] = {
        "model": model,
        "prompt": list(prompt_ids),
        "max_tokens": max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "n": 1,
        "seed": seed % _SEEDS,
        "stream": True,
        "stream_options": {"include_usage": True},
        "extra_body": extra,
    }
    if options.stop:
        request["stop"] = list(options.stop)
    if options.logprobs is not None:
        request["logprobs"] = max(1, options.logprobs)
        extra |= _logprobs_fields(dialect)
    return request


def _sampling_fields(dialect: Dialect, options: GenerationOptions) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if dialect.all_tokens is not None:
        fields["top_k"] = options.top_k or dialect.all_tokens
    elif options.top_k:
        raise _lacking(dialect, "top_k")
    if dialect.has_min_p:
        fields["min_p"] = options.min_p
    elif options.min_p:
        raise _lacking(dialect, "min_p")
    return fields


def _logprobs_fields(dialect: Dialect) -> dict[str, Any]:
    if dialect.logprobs is None:
        raise _lacking(dialect, "logprobs")
    return {"return_tokens_as_token_ids": True} if dialect.logprobs == "token_id" else {}


def _lacking(dialect: Dialect, option: str) -> OptionInvalid:
    return OptionInvalid(f"{option}: a server of the dialect {dialect.name} has no field for it. Leave it out.")
