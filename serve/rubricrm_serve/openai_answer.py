"""The bodies of OpenAI's API that this server answers with, as types for the documentation and for mypy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from rubricrm.generation.result import RubricResult, TextResult
from typing_extensions import TypedDict

from rubricrm_serve.refusal import out_of_time

Finish = Literal["stop", "length"]


class ErrorFacts(TypedDict):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(TypedDict):
    """OpenAI's error object."""

    error: ErrorFacts


class PromptTokensDetails(TypedDict):
    """Where tokens of a prompt came from."""

    cached_tokens: int


class UsageAnswer(TypedDict):
    """Tokens of a request; the prompt counts once, whatever n is."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TokenFacts(TypedDict):
    """A token and its log-probability."""

    token: str
    bytes: list[int]
    logprob: float


class ChosenToken(TokenFacts):
    """A token that was chosen, and the most probable ones in its place."""

    top_logprobs: list[TokenFacts]


class ChatLogprobs(TypedDict):
    """Log-probabilities of an answer."""

    content: list[ChosenToken]
    refusal: None


class AnswerMessage(TypedDict):
    """The model's message."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(TypedDict):
    """The answer of POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageAnswer
    system_fingerprint: str


class TextLogprobs(TypedDict):
    """Log-probabilities of a text, in lists side by side."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(TypedDict):
    """One text."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish


class TextCompletion(TypedDict):
    """The answer of POST /v1/completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageAnswer
    system_fingerprint: str


class ModelEntry(TypedDict):
    """One model id."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelList(TypedDict):
    """The answer of GET /v1/models."""

    object: Literal["list"]
    data: list[ModelEntry]


Head = dict[str, Any]


def head(kind: str, prefix: str, request_id: str, model: str, fingerprint: str) -> Head:
    """Return the fields that a completion and all of its chunks begin with."""
    return {
        "id": f"{prefix}-{request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": fingerprint,
    }


def finish_reason(result: TextResult | RubricResult, timeout_s: float) -> Finish:
    """Return why a text ended, in OpenAI's words. A text that goes in circles was cut, as by a limit.

    Raises:
        Refusal: Its time was over, for which there is no word.
    """
    if result.finish_reason == "timeout":
        raise out_of_time(timeout_s)
    return "stop" if result.finish_reason == "stop" else "length"


def usage(results: Sequence[TextResult | RubricResult], num_choices: int) -> UsageAnswer:
    """Return the tokens of a request; the results are in order, so many of each prompt."""
    written = sum(result.usage.completion_tokens for result in results)
    prompts = [result.usage for result in results[::num_choices]]
    read = sum(prompt.prompt_tokens for prompt in prompts)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(prompt.cached_prompt_tokens for prompt in prompts)},
    }
