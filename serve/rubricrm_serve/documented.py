"""What the routes answer, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rubricrm_serve.openai_answer import ErrorAnswer

# What may come instead of an answer of a route that generates. 4xx are the client's fault.
_REFUSALS = {
    400: "The request is wrong, or asks for what is not supported; `param` names it.",
    401: "A key is needed.",
    404: "There is no such model.",
    408: "The body took too long.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    500: "The server failed.",
    502: "The server behind this one failed.",
    503: "Too many requests wait, or the server is shutting down; Retry-After says when to come back.",
    504: "The answer was not complete in time.",
}


def answers(model: Any, *, stream: bool = False, codes: tuple[int, ...] = tuple(_REFUSALS)) -> dict[int | str, Any]:
    """Return the `responses` of a route.

    Args:
        model: The type of its answer.
        stream: Whether it may come as server-sent events instead.
        codes: Which refusals there are.
    """
    whole: dict[str, Any] = {"model": model}
    if stream:
        whole["content"] = {"text/event-stream": {}}
    refusals: dict[int | str, Any] = {code: {"model": ErrorAnswer, "description": _REFUSALS[code]} for code in codes}
    return {200: whole} | refusals
