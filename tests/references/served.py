"""A server in a thread of the test's process, on a free port."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rubricrm import AsyncJury, AsyncRubricModel, RubricModel
from rubricrm.generation.local_backend import LocalBackend
from rubricrm_serve.app import create_app
from rubricrm_serve.server import Server, bind
from rubricrm_serve.server_options import ServerOptions
from rubricrm_serve.service import Service

# What takes the demo model a thousand steps and more: a text in circles, and one that is drawn nearly at random.
LONG = {"request": "a " * 12, "constrain": False, "stop_on_repetition": False, "max_new_tokens": 1900, "stream": True}
LONG_CHAT = {
    "model": "rubricrm-demo",
    "messages": [{"role": "user", "content": "Write."}],
    "temperature": 3,
    "seed": 1,
    "max_tokens": 1900,
    "stream": True,
}


@dataclass(frozen=True)
class Served:
    """A server that runs.

    Attributes:
        url: Where it listens.
        port: The same, as a number.
        service: What its routes share.
        server: The server.
        model: What it serves.
    """

    url: str
    port: int
    service: Service
    server: Server
    model: RubricModel

    def is_idle(self) -> bool:
        """Whether nothing runs or waits, neither in the server nor in the engine."""
        backend = self.model._backend
        is_busy = isinstance(backend, LocalBackend) and any(
            not each.is_finished for each in backend.engine._sequences()
        )
        return not (is_busy or self.service.admission.running)


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@contextmanager
def serving(model: RubricModel, jury: AsyncJury | None = None, **options: Any) -> Iterator[Served]:
    """Serve a model, and maybe a jury, until the end of the block."""
    chosen = ServerOptions(**options)
    app = create_app(AsyncRubricModel(model), chosen, jury=jury)
    server = Server(app, chosen, access_log=False, log_level="error")
    with bind("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield Served(f"http://127.0.0.1:{port}", port, app.state.service, server, model)
        finally:
            server.drain()
            server.drain()
            thread.join()
