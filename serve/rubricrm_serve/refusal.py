"""What a client is told where it gets no answer: a status, and OpenAI's error object."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from rubricrm.errors import RubricrmError

logger = logging.getLogger(__name__)

_BAD_INPUT = (400, "invalid_request_error")
_OVERLOADED = (503, "overloaded")
_BEHIND = (502, "upstream_error")
# By the code of the SDK's error. Any other one is the server's own failure.
_STATUS = {
    "REQUEST_INVALID": _BAD_INPUT,
    "OPTION_INVALID": _BAD_INPUT,
    "OPTION_UNKNOWN": _BAD_INPUT,
    "PROMPT_TOO_LONG": _BAD_INPUT,
    "ENGINE_BUSY": _OVERLOADED,
    "SERVER_BUSY": _OVERLOADED,
    "MODEL_CLOSED": (503, "unavailable"),
    "SERVER_UNREACHABLE": _BEHIND,
    "SERVER_REFUSED": _BEHIND,
    "SERVER_FAILED": _BEHIND,
    "STREAM_BROKEN": _BEHIND,
}
RETRY_AFTER = {"retry-after": "1"}


class Refusal(Exception):  # noqa: N818 (it is an answer too, not only an error)
    """A request that is not answered, and why.

    Attributes:
        status: Of HTTP.
        code: For programs.
        headers: Of the answer, beside the usual ones.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Say what is refused.

        Args:
            status: Of HTTP.
            message: For people.
            kind: What OpenAI calls `type`.
            param: The field that is wrong.
            code: For programs.
            headers: Of the answer.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})
        self._error = {"message": message, "type": kind, "param": param, "code": code}

    def body(self) -> bytes:
        """Return the JSON text; ASCII, so that it can quote a lone surrogate that a client sent."""
        return json.dumps(self.to_dict()).encode()

    def to_dict(self) -> dict[str, Any]:
        """Return OpenAI's error object."""
        return {"error": self._error}


def refusal_of(error: RubricrmError) -> Refusal:
    """Return what a client is told of an error of the SDK.

    What is the server's own fault stands in its log alone: the message may name files and addresses.
    """
    status, kind = _STATUS.get(error.code, (500, "server_error"))
    if error.code == "PROMPT_TOO_LONG":
        return Refusal(status, str(error), kind, param="input_tokens", code="context_length_exceeded")
    if status == 503:
        return Refusal(status, str(error), kind, code=error.code.lower(), headers=RETRY_AFTER)
    if status >= 500:
        logger.error("a generation failed: %s", error)
        return Refusal(
            status, f"{error.code}: the generation failed. The server's log says why.", kind, code=error.code.lower()
        )
    return Refusal(status, str(error), kind, code=error.code.lower())


def full(max_concurrency: int, max_waiting: int) -> Refusal:
    """Return the refusal of a request for which there is no place."""
    return Refusal(
        503,
        f"{max_concurrency} requests run and {max_waiting} wait, which is the limit. Try again later.",
        "overloaded",
        code="overloaded",
        headers=RETRY_AFTER,
    )


def shutting_down() -> Refusal:
    """Return the refusal of a request that a server which ends cannot answer any more."""
    return Refusal(
        503,
        "The server is shutting down. Try again: another one may answer.",
        "unavailable",
        code="shutting_down",
        headers=RETRY_AFTER,
    )


def out_of_time(timeout_s: float) -> Refusal:
    """Return the refusal of a request whose answer is not whole in time. Trying again would take as long."""
    return Refusal(
        504,
        f"The answer was not complete after {timeout_s:g} seconds, the server's limit. Ask for fewer tokens.",
        "timeout",
        code="deadline_exceeded",
        headers={"x-should-retry": "false"},
    )
