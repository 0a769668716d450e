"""One connection, with limits for those who are slow: to send the headers of a request, and to take the answer."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from rubricrm_serve.metrics import Metrics
from rubricrm_serve.server_options import ServerOptions


class Connection(H11Protocol):
    """uvicorn's connection over h11, which itself has a limit for idle ones after an answer only.

    It reads `cycle`, uvicorn's state of the request in progress; a test of the limits holds it to that.

    Attributes:
        options: Of the server; a class for each server has its own.
        most: Most connections at a time; another one is closed at once.
        metrics: Count those that are cut.
    """

    options: ServerOptions
    most: int
    metrics: Metrics

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._header_limit: asyncio.TimerHandle | None = None
        self._stall_limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the headers of a request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self.metrics.connection_cut("too_many")
            transport.close()
            return
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget all limits."""
        super().connection_lost(exc)
        self._header_limit = _stopped(self._header_limit)
        self._stall_limit = _stopped(self._stall_limit)

    def pause_writing(self) -> None:
        """The client takes less than there is."""
        super().pause_writing()
        self._watch_stall()

    def resume_writing(self) -> None:
        """The client goes on."""
        super().resume_writing()
        self._stall_limit = _stopped(self._stall_limit)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also where the client does not take the rest of its answer."""
        super().timeout_keep_alive_handler()
        self._watch_stall()

    def _watch_headers(self) -> None:
        """Let the time run while headers are awaited, and not while a request is answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._header_limit = _stopped(self._header_limit)
        elif self._header_limit is None:
            self._header_limit = self.loop.call_later(self.options.header_timeout_s, self._end_if_silent)

    def _watch_stall(self) -> None:
        self._stall_limit = self._stall_limit or self.loop.call_later(self.options.stall_timeout_s, self._end_stalled)

    def _end_stalled(self) -> None:
        self.metrics.connection_cut("stalled")
        self.transport.abort()

    def _end_if_silent(self) -> None:
        self._header_limit = None
        # An idle connection between requests is the keep-alive limit's.
        if self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete):
            self.metrics.connection_cut("silent")
            self.transport.close()


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Stop a timer; return what stands in its place."""
    if timer is not None:
        timer.cancel()
    return None
