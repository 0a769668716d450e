"""How a command ends when it is told to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminated_cleanly() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does: what is half written is removed, what can be continued is kept."""
    code = 0

    def end(number: int, _: object) -> None:
        nonlocal code
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt what the first one cleans up
        code = 128 + number
        raise SystemExit(code)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Exception as error:
        # Compiled modules turn whatever is raised while they are imported into an ImportError of their own.
        if code:
            raise SystemExit(code) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
