"""A thread with an event loop, in which all requests to one server run: thousands of them cost no thread each."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from rubricrm.errors import ModelClosed

T = TypeVar("T")
_LONGEST_STOP_S = 5.0


class LoopThread:
    """An event loop of its own, in a daemon thread. Safe from any thread of the process that made it."""

    def __init__(self, name: str) -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_of_this_process(self) -> bool:
        """Whether the thread exists here: not in a fork."""
        return self._process == os.getpid()

    def check_open(self) -> None:
        """Raise ModelClosed where no loop runs any more: after `stop`, or in a fork."""
        if not self.is_of_this_process:
            raise ModelClosed(f"the model was opened in another process than its fork {os.getpid()}. Open it here.")
        if self._is_stopped:
            raise ModelClosed("the model was closed. Open it again.")

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Have a function called in the loop, soon; nothing once it has stopped."""
        if self.is_of_this_process and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(function, *arguments)
            except RuntimeError:  # it was closed just now
                return

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, and return what it returns; an interrupt cancels it.

        Raises:
            ModelClosed: As `check_open`.
        """
        try:
            self.check_open()
        except ModelClosed:
            work.close()
            raise
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Cancel all that runs, run one last coroutine, and end the thread. Stopping twice is fine."""
        if not self.is_of_this_process or self._is_stopped:
            return
        self._is_stopped = True
        self.call(lambda: self._loop.create_task(self._end(last)))
        if threading.current_thread() is not self._thread:
            self._thread.join(_LONGEST_STOP_S)

    async def _end(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        try:
            await last()
        finally:
            self._loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
