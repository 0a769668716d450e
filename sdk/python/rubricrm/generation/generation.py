"""One generation as its readers see it, wherever it is computed: its text so far, its end, and who waits for more."""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from rubricrm.errors import ModelClosed, RubricrmError
from rubricrm.generation.constraint import Overrules
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.result import Usage
from rubricrm.generation.sampling import TokenLogprobs

logger = logging.getLogger(__name__)

_all: weakref.WeakSet[Generation] = weakref.WeakSet()


class Generation(ABC):
    """A prompt and the text that follows it.

    Whoever computes it adds to it; any thread may read it, wait for it, or end it. What is read is never taken away, so
    that several may read it at their own pace.

    Attributes:
        prompt_ids: The prompt.
        options: What was asked for.
        cancel: Setting it ends the generation before its next token; None: there is no such event.
        is_held_elsewhere: Whether somebody else was asked to hold the text to its form, so that it is to be checked.
        seed: The seed in use, drawn if the options had none.
        logprobs: An entry for each token, where they were asked for.
        pieces: The text, whole characters, in parts that are never empty.
        finish_reason: One of `FINISH_REASONS`; None while running, or after an error.
        error: What ended it, if it was no reason of its own.
        started: `time.perf_counter()` when the request came in, as all times here.
        admitted: When its prompt began to be computed; None: not yet, or nobody says.
        prefilled: When the prompt was computed; None as above.
        first_token: When the first token was decided, or None.
        ended: When it ended, or None.
    """

    def __init__(
        self,
        prompt_ids: list[int],
        options: GenerationOptions,
        *,
        cancel: threading.Event | None = None,
        started: float | None = None,
    ) -> None:
        self.prompt_ids = prompt_ids
        self.options = options
        self.cancel = cancel
        self.is_held_elsewhere = False
        self.seed = int.from_bytes(os.urandom(8), "little") if options.seed is None else options.seed
        self.logprobs: list[TokenLogprobs] = []
        self.pieces: list[str] = []
        self.finish_reason: str | None = None
        self.error: RubricrmError | None = None
        self.started = time.perf_counter() if started is None else started
        self.admitted: float | None = None
        self.prefilled: float | None = None
        self.first_token: float | None = None
        self.ended: float | None = None
        # Reentrant: a signal's handler may end the generation that its own thread reads.
        self._lock = threading.RLock()
        # Of those that wait. Not a condition: that would lose the end that a handler brings just before the wait.
        self._wakers: list[SimpleQueue[None]] = []
        self._listeners: list[Callable[[], object]] = []
        _all.add(self)

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """The tokens so far."""

    @property
    def overrules(self) -> Overrules | None:
        """What a constraint has overruled; None where there is none, or nobody says."""
        return None

    @property
    def line_out_of_grammar(self) -> int | None:
        """The line where the text leaves the grammar of its options, to which somebody else was to hold it.

        None: it is in it, or there is none, or it is held to it here.
        """
        return None

    @property
    def status(self) -> str:
        """Where it stands, in a word."""
        return "finished" if self.is_finished else "running"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more comes."""
        return self.ended is not None

    @property
    def is_cancelled(self) -> bool:
        """Whether its event is set."""
        return self.cancel is not None and self.cancel.is_set()

    @property
    def deadline(self) -> float | None:
        """When its time is up; None: never."""
        return None if self.options.timeout_s is None else self.started + self.options.timeout_s

    def finish(self, reason: str) -> None:
        """End for a reason, from any thread; the first end stands."""
        with self._lock:
            if self.is_finished:
                return
            self._finish(reason)
        self._tell()

    def fail(self, error: RubricrmError) -> None:
        """End with an error, from any thread; the first end stands."""
        with self._lock:
            if self.is_finished:
                return
            self.error = error
            self._end()
        self._tell()

    def end_if_due(self) -> bool:
        """End if it was cancelled by its event, or ran out of time; return whether it has ended."""
        if self.is_cancelled:
            self.finish("cancelled")
        elif self.time_left() == 0:
            self.finish("timeout")
        return self.is_finished

    def time_left(self) -> float | None:
        """Return the seconds until the deadline, at least 0; None: there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.perf_counter())

    def wait(self, is_ready: Callable[[], bool] = lambda: False) -> None:
        """Wait until a condition holds that new tokens, text or the end may bring about; return at the end anyway.

        The timeout is kept to here, in the middle of a step too.
        """
        waker: SimpleQueue[None] = SimpleQueue()
        self._wakers.append(waker)
        try:
            while not (self.is_finished or is_ready() or (left := self.time_left()) == 0):
                with suppress(Empty):
                    waker.get(timeout=None if left is None else min(left, threading.TIMEOUT_MAX))
        finally:
            self._wakers.remove(waker)
        if not is_ready():
            self.end_if_due()

    def listen(self, listener: Callable[[], object]) -> None:
        """Have a function called after each change from now on, in the thread that changes something.

        It must be quick; what it raises is logged. No lock is held meanwhile.
        """
        with self._lock:
            self._listeners.append(listener)
        if self.is_finished:
            _call(listener)

    def raise_error(self) -> None:
        """Raise what the generation failed with, if it did."""
        if (error := self.error) is not None:
            raise copy.copy(error) from error  # a new one for each reader: a traceback is one thread's

    def end_in_fork(self) -> None:
        """Fail, in a process that has no thread to go on with it; whoever held the lock may not exist here either."""
        self._lock = threading.RLock()
        self._listeners.clear()
        self.fail(
            ModelClosed(f"the generation runs in another process than its fork {os.getpid()}. Open the model here.")
        )

    def _finish(self, reason: str) -> None:
        """End for a reason; the lock is held."""
        self.finish_reason = reason
        self._end()

    def _end(self) -> None:
        self.ended = time.perf_counter()

    def _tell(self) -> None:
        for waker in tuple(self._wakers):
            waker.put(None)
        for listener in tuple(self._listeners):
            _call(listener)


def _call(listener: Callable[[], object]) -> None:
    try:
        listener()
    except Exception:  # it may be anybody's, and in the thread that computes for all
        logger.exception("a listener of a generation failed")


def _end_all_in_fork() -> None:
    for generation in list(_all):
        generation.end_in_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_all_in_fork)
