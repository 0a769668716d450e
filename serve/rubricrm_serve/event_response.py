"""Server-sent events: an answer piece by piece, which ends when the client leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rubricrm_serve.choices import while_connected
from rubricrm_serve.refusal import Refusal

PING = b": nothing yet\n\n"


def event(value: Any, name: str | None = None) -> bytes:
    """Return an event whose data is the JSON text of a value."""
    data = json.dumps(value, separators=(",", ":")).encode()
    return b"data: %b\n\n" % data if name is None else b"event: %b\ndata: %b\n\n" % (name.encode(), data)


class EventResponse(Response):
    """Sends events as they come. An error in the middle becomes an event, and then the stream ends."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        close: Callable[[], Awaitable[None]],
        *,
        error_name: str | None = None,
    ) -> None:
        """Send nothing yet.

        Args:
            events: What to send; each item may hold several events.
            close: Ends what the events come from. It is called in any case, also where the client has left already.
            error_name: The name of the event that an error becomes; None: it has none, as OpenAI's.
        """
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._close = close
        self._error_name = error_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (of ASGI)
        """Send all of them, as an ASGI application."""
        try:
            await while_connected(receive, self._send(send))
        finally:
            await self._close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self._events:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Refusal as refusal:
            error = event(refusal.to_dict(), self._error_name)
            await send({"type": "http.response.body", "body": error, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
