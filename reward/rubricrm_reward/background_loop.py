"""An event loop in a thread of its own, for trainers that call rewards from threads without one."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Value = TypeVar("Value")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: a fork has no thread that runs its parent's loop


def run_in_background(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """Run a coroutine in this process's background loop, and wait for it.

    All calls share one loop, so that they share one judge and one limit of concurrency. The loop lives as long as the
    process; its thread keeps no process from ending.
    """
    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result()


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="rubricrm-reward", daemon=True).start()
        return loop
