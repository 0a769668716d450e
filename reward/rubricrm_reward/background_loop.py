"""An event loop in a thread of its own, for trainers that call rewards from threads without one."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Value = TypeVar("Value")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run_in_background(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """Run a coroutine in this process's background loop, and wait for it.

    All calls share one loop, so that they share one judge and one limit of concurrency. The loop lives as long as the
    process; its thread keeps no process from ending.
    """
    return asyncio.run_coroutine_threadsafe(coroutine, _running_loop()).result()


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="rubricrm-reward", daemon=True).start()
        return _loop


def _forget() -> None:
    """Begin anew after a fork: there is no thread that runs the parent's loop, and the lock may be held."""
    global _lock, _loop
    _lock, _loop = threading.Lock(), None


os.register_at_fork(after_in_child=_forget)
