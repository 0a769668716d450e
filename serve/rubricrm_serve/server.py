"""The server: uvicorn, which drains before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator

import uvicorn
from fastapi import FastAPI
from rubricrm.errors import OptionInvalid

from rubricrm_serve.admission import Admission
from rubricrm_serve.connection import Connection
from rubricrm_serve.server_options import ServerOptions

logger = logging.getLogger("uvicorn.error")

_OWN_FILES = 128  # that the process opens beside its connections
_MOST_FILES = 65536
_LAST_WORDS_S = 5  # to send what is written already
_MOST_HEADER_BYTES = 32 << 10


class Server(uvicorn.Server):
    """Serves an application until SIGTERM or SIGINT.

    Then it goes on listening: /ready says 503, new work is refused with 503, and what runs may end within the grace
    time. What is left then gets an error. A second signal ends that time at once.
    """

    def __init__(
        self,
        app: FastAPI,
        options: ServerOptions,
        *,
        access_log: bool = True,
        log_level: str = "info",
        root_path: str = "",
        on_start: Callable[[], object] = lambda: None,
    ) -> None:
        """Listen to nothing yet.

        Args:
            app: What `create_app` made.
            options: Its options.
            access_log: Whether each request is a line in the log, without its content.
            log_level: uvicorn's.
            root_path: Where a proxy shows this server.
            on_start: Called once connections are taken.
        """
        service = app.state.service
        facts = {"options": options, "most": _raise_file_limit() - _OWN_FILES, "metrics": service.metrics}
        kind = type("Connection", (Connection,), facts)
        super().__init__(
            uvicorn.Config(
                app,
                http=kind,
                ws="none",
                lifespan="off",
                access_log=access_log,
                log_level=log_level,
                root_path=root_path,
                server_header=False,
                timeout_keep_alive=options.keep_alive_s,  # type: ignore[arg-type]  # it gives it to call_later
                timeout_graceful_shutdown=_LAST_WORDS_S,
                h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            )
        )
        self._grace_s = options.grace_s
        self._on_start = on_start
        self._admission: Admission = service.admission
        self._deadline: float | None = None

    def drain(self) -> None:
        """Take no new work, and end when there is none left or the grace time is over. Twice: end now."""
        now = time.monotonic()
        self._admission.drain()
        if self._deadline is None:
            self._deadline = now + self._grace_s
            logger.info("Draining: %d run and %d wait", self._admission.running, self._admission.waiting)
        else:
            self._deadline = now

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._on_start()

    async def on_tick(self, counter: int) -> bool:
        """Look whether it is time to end; uvicorn asks ten times a second."""
        if self._deadline is not None:
            is_idle = not self._admission.running
            if is_idle or time.monotonic() >= self._deadline:
                self._admission.cut()
                self.should_exit = True
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Drain at a signal. uvicorn's own way would raise it again, before the model is closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket at an address; nobody can connect before a server listens.

    Raises:
        OptionInvalid: There is no such address, or it is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with contextlib.ExitStack() as on_failure:
            # asyncio sends small writes at once (TCP_NODELAY) only where a socket says that its protocol is TCP.
            bound = on_failure.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            on_failure.pop_all()
    except (OSError, OverflowError, UnicodeError) as error:
        raise OptionInvalid(f"cannot listen on {host}, port {port}: {error}. Give another --host or --port.") from error
    return bound


def address_text(bound: socket.socket) -> str:
    """Return the URL of a socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _raise_file_limit() -> int:
    """Let the process open as many files as it may, and return how many: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
