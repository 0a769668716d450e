"""Which requests to a server run, and which wait: as many at once as may, by priority, then by arrival."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from typing import Any

from rubricrm.errors import EngineBusy, RubricrmError
from rubricrm.remote.loop_thread import LoopThread
from rubricrm.remote.remote_generation import RemoteGeneration

# How often events are looked at that end a generation: nobody tells when one is set.
_POLL_S = 0.02


@dataclass(eq=False)
class _Job:
    """A generation, the work that computes it, and what the loop holds for it."""

    generation: RemoteGeneration
    work: Callable[[], Coroutine[Any, Any, None]]
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    has_left: bool = False


class RequestLine:
    """Starts the work of generations in the loop, and cancels it once they have ended, whoever ended them."""

    def __init__(self, loop: LoopThread, max_concurrency: int, max_waiting: int) -> None:
        self._loop = loop
        self._max_concurrency = max_concurrency
        self._max_waiting = max_waiting
        self._lock = threading.RLock()  # a signal's handler may close what its own thread submits to
        self._jobs: set[_Job] = set()
        # The rest belongs to the loop's thread.
        self._waiting: list[tuple[int, int, _Job]] = []
        self._arrival = count()
        self._num_running = 0
        self._cancellable: set[_Job] = set()

    def add(self, generation: RemoteGeneration, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let a generation's work be done when it is its turn. Safe from any thread.

        Raises:
            EngineBusy: As many wait already as may.
        """
        job = _Job(generation, work)
        with self._lock:
            if len(self._jobs) >= self._max_concurrency + self._max_waiting:
                raise EngineBusy(
                    f"{len(self._jobs)} requests run or wait already, which is the limit. Send fewer at once, try "
                    "again later, or connect with a larger max_waiting."
                )
            self._jobs.add(job)
        generation.listen(lambda: self._loop.call(self._leave, job) if generation.is_finished else None)
        self._loop.call(self._enter, job)

    def fail_all(self, error: RubricrmError) -> None:
        """End every generation with an error. Safe from any thread."""
        with self._lock:
            jobs = list(self._jobs)
        for job in jobs:
            job.generation.fail(error)

    def _enter(self, job: _Job) -> None:
        generation = job.generation
        if generation.end_if_due():
            return
        loop = asyncio.get_running_loop()
        if (left := generation.time_left()) is not None:
            job.timer = loop.call_later(left, generation.end_if_due)
        if generation.cancel is not None:
            self._cancellable.add(job)
            if len(self._cancellable) == 1:
                loop.call_later(_POLL_S, self._poll)
        heapq.heappush(self._waiting, (-generation.options.priority, next(self._arrival), job))
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._num_running < self._max_concurrency:
            job = heapq.heappop(self._waiting)[2]
            if not job.has_left:
                self._num_running += 1
                job.task = asyncio.get_running_loop().create_task(job.work())
                job.task.add_done_callback(self._end)

    def _end(self, _: asyncio.Task[None]) -> None:
        self._num_running -= 1
        self._admit()

    def _leave(self, job: _Job) -> None:
        if job.has_left:
            return
        job.has_left = True
        if job.timer is not None:
            job.timer.cancel()
        if job.task is not None:
            job.task.cancel()
        self._cancellable.discard(job)
        with self._lock:
            self._jobs.discard(job)

    def _poll(self) -> None:
        for job in list(self._cancellable):
            job.generation.end_if_due()
        if self._cancellable:
            asyncio.get_running_loop().call_later(_POLL_S, self._poll)
