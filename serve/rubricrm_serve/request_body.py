"""The body of a request: read whole, within a size and a time, before anything else looks at it."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rubricrm_serve.refusal import Refusal
from rubricrm_serve.reply import refuse


class RequestBody:
    """An ASGI application around another one, which gets each body in one message."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        """Guard an application.

        Args:
            app: The application.
            max_bytes: Most bytes of a body; more is refused with 413.
            timeout_s: Seconds in which it must be there; else the request is refused with 408.
        """
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body of a POST."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(Headers(scope=scope), receive)
        except Refusal as refusal:
            await refuse(refusal, scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """Return the body; None where the client left."""
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._max_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._collect(receive)
        except TimeoutError:
            message = f"The body was not there after {self._timeout_s:g} seconds. Send it faster."
            raise Refusal(408, message, code="request_timeout", headers={"connection": "close"}) from None

    async def _collect(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> Refusal:
        message = f"The body has more than {self._max_bytes} bytes, the limit. Send less at a time."
        return Refusal(413, message, code="request_too_large", headers={"connection": "close"})


def _replay(body: bytes, receive: Receive) -> Receive:
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replay() -> Message:
        return next(messages, None) or await receive()

    return replay
