"""What a server's refusals, outages and broken streams are called here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rubricrm.errors import (
    ServerBusy,
    ServerError,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
    StreamBroken,
)

if TYPE_CHECKING:
    from openai import APIStatusError

_BUSY = (408, 429, 503)
_SHOWN_CHARACTERS = 300
_REMEDIES = {
    401: "Pass the server's key as api_key.",
    403: "Pass a key with the right for this as api_key.",
    404: "See what the server lists at /v1/models, and connect again.",
    413: "Shorten the request.",
}


def failure(error: Exception, where: str, partial_text: str = "", *, has_begun: bool = False) -> ServerError:
    """Return the error of this package for one that a call of the client raised.

    Args:
        error: From the openai package; in a stream also what its transport or its reader of JSON raises.
        where: The address that was asked.
        partial_text: What the stream had brought.
        has_begun: Whether the stream had begun: then nothing was tried again.
    """
    from openai import APIError, APIStatusError, APITimeoutError

    if isinstance(error, APIStatusError):
        return _refusal(error, where)
    if has_begun:
        if isinstance(error, APIError) and is_told(error):
            return broke_off(where, said_by(error.body) or error.message, code_of(error.body), partial_text)
        return broken(where, f"{type(error).__name__}: {error}", partial_text)
    if isinstance(error, APITimeoutError):
        finding = "did not answer in time"
    else:
        finding = f"cannot be reached ({error.__cause__ or error})"
    remedy = "See that the server runs and that the address is right."
    return ServerUnreachable(f"{where}: {finding}. {remedy}", attempts=_attempts(error))


def is_told(error: Exception) -> bool:
    """Whether the server itself told an error, such as in an event of its stream; else the transport failed."""
    from openai import APIConnectionError, APIError

    return isinstance(error, APIError) and not isinstance(error, APIConnectionError)


def failed(where: str, finding: str, partial_text: str = "") -> ServerFailed:
    """Return the error of a generation that the server itself gave up."""
    return ServerFailed(f"{where}: the server {finding}. See the server's log.", partial_text=partial_text)


def broke_off(where: str, said: str, code: int | None, partial_text: str) -> ServerError:
    """Return the error of a stream with an error in it: that of an answer with such a status, if it names one.

    vLLM says so of most requests for which it has no room: it has answered 200 before it looks.
    """
    text = f"{where}: the server broke off with an error: {said:.{_SHOWN_CHARACTERS}}"
    return _of_status(500 if code is None else code, text, status=code, partial_text=partial_text)


def broken(where: str, finding: str, partial_text: str) -> StreamBroken:
    """Return the error of a stream that is no whole answer."""
    return StreamBroken(
        f"{where}: the stream broke off after {len(partial_text)} characters, before it said why the text ends "
        f"({finding:.{_SHOWN_CHARACTERS}}). Ask again.",
        partial_text=partial_text,
    )


def said_by(body: object) -> str:
    """Return the message of an error's body, in whichever form: nested, flat, or a text alone."""
    if isinstance(body, Mapping):
        inner = body.get("error")
        body = said_by(inner) if inner else body.get("message") or body.get("detail")
    if body is None:
        return ""
    return str(body)[:_SHOWN_CHARACTERS]


def code_of(body: object) -> int | None:
    """Return the status that an error's body names; None: it names none."""
    inner = body.get("error") if isinstance(body, Mapping) else None
    found = inner if isinstance(inner, Mapping) else body
    code = found.get("code") if isinstance(found, Mapping) else None
    return code if type(code) is int and 400 <= code < 600 else None


def _refusal(error: APIStatusError, where: str) -> ServerError:
    status = error.status_code
    said = said_by(error.body) or error.message[:_SHOWN_CHARACTERS]
    text = f"{where}: the server answered {status}: {said}"
    return _of_status(status, text, status=status, attempts=_attempts(error))


def _of_status(kind: int, text: str, **facts: Any) -> ServerError:
    if kind in _BUSY:
        return ServerBusy(f"{text}. Ask again later, or with a smaller max_concurrency.", **facts)
    if kind >= 500:
        return ServerFailed(f"{text}. See the server's log.", **facts)
    return ServerRefused(f"{text}. {_REMEDIES.get(kind, 'Ask for what it supports.')}", **facts)


def _attempts(error: Exception) -> int:
    """Return how often the client asked: it says so in the last request's headers."""
    headers = getattr(getattr(error, "request", None), "headers", {})
    count = str(headers.get("x-stainless-retry-count", "0"))
    return 1 + (int(count) if count.isdecimal() else 0)
