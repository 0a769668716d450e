"""How a command ends when it is told to."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# Until the work is told again, if the first time was lost: whatever swallowed it has returned by then.
_AGAIN_S = 0.01


@contextmanager
def terminated_cleanly() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does: what is half written is removed, what can be continued is kept."""
    code = 0

    def end(number: int, _: object) -> None:
        nonlocal code
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt what the first one cleans up
        code = 128 + number
        raise SystemExit(code)

    def tell_again(lost: UnraisableHookArgs) -> None:
        # Python swallows what is raised in a finalizer, or when a weak reference dies.
        if not (code and isinstance(lost.exc_value, SystemExit)):
            previous_hook(lost)
            return
        signal.signal(signal.SIGTERM, end)
        main = threading.main_thread().ident
        threading.Timer(_AGAIN_S, signal.pthread_kill, (main, signal.SIGTERM)).start()  # it wakes a thread that sleeps

    previous = signal.signal(signal.SIGTERM, end)
    previous_hook, sys.unraisablehook = sys.unraisablehook, tell_again
    try:
        yield
    except Exception as error:
        # Compiled modules turn whatever is raised while they are imported into an ImportError of their own.
        if code:
            raise SystemExit(code) from error
        raise
    finally:
        sys.unraisablehook = previous_hook
        signal.signal(signal.SIGTERM, previous)
