"""One generation on its way through the engine: what it asked for, what it has, and who waits for more."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from queue import Empty, SimpleQueue

from rubricrm.errors import ModelClosed, RubricrmError
from rubricrm.generation.completion import Completion
from rubricrm.generation.constraint import Constraint
from rubricrm.generation.drafting import Drafter
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sampling import TokenLogprobs

logger = logging.getLogger(__name__)

_all: weakref.WeakSet[Sequence] = weakref.WeakSet()


class State(Enum):
    """Where a sequence stands."""

    WAITING = "waiting"  # for a slot
    PREFILLING = "prefilling"  # its prompt is computed, chunk by chunk
    DECODING = "decoding"  # each step decides a token, or several
    FINISHED = "finished"


class Sequence:
    """A prompt and the tokens that follow it.

    The engine's thread decides tokens; any thread may read them, wait for them, or end the sequence. What is read is
    never taken away, so that several may read it at their own pace.

    Attributes:
        prompt_ids: The prompt.
        options: What was asked for.
        max_new_tokens: Most tokens that may follow; fewer once a text in a form goes in circles.
        is_rubric: Whether what follows is a rubric.
        constraint: What holds it to a form, and what that has overruled; None: nothing does.
        drafter: What drafts for it; None: nothing is drafted.
        cancel: Setting it ends the sequence before its next token; None: there is no such event.
        drafted_tokens: Drafted tokens that were verified.
        accepted_tokens: How many of them came true.
        seed: The seed in use, drawn if the options had none.
        state: Where it stands.
        cached_tokens: How many of the prompt were restored and not computed.
        token_ids: Tokens that were decided; the one that ends a completion is not among them.
        logprobs: An entry for each of them, where they were asked for.
        pieces: Their text, whole characters, in parts that are never empty.
        finish_reason: One of `FINISH_REASONS`; None while running, or after an error.
        error: What ended it, if it was no reason of its own.
        started: `time.perf_counter()` when the request came in, as all times here.
        admitted: When it got a slot, or None.
        prefilled: When the prompt was computed, or None.
        first_token: When the first token was decided, or None.
        ended: When it ended, or None.
    """

    def __init__(
        self,
        prompt_ids: list[int],
        options: GenerationOptions,
        max_new_tokens: int,
        *,
        is_rubric: bool = False,
        completion: Completion | None = None,
        constraint: Constraint | None = None,
        drafter: Drafter | None = None,
        cancel: threading.Event | None = None,
        started: float | None = None,
    ) -> None:
        """Describe a generation.

        Args:
            prompt_ids: The prompt.
            options: Checked.
            max_new_tokens: Most tokens that may follow.
            is_rubric: Whether what follows is a rubric.
            completion: Makes text of tokens; None: there is no text, and neither stop strings nor circles end it.
            constraint: Holds it to a form.
            drafter: Drafts what may follow.
            cancel: Setting it ends the sequence before its next token.
            started: When the request came in; None: now.
        """
        self.prompt_ids = prompt_ids
        self.options = options
        self.max_new_tokens = max_new_tokens
        self.is_rubric = is_rubric
        self.constraint = constraint
        self.drafter = drafter
        self.drafted_tokens = self.accepted_tokens = 0
        self.seed = int.from_bytes(os.urandom(8), "little") if options.seed is None else options.seed
        self.state = State.WAITING
        self.cached_tokens = 0
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprobs] = []
        self.pieces: list[str] = []
        self.finish_reason: str | None = None
        self.error: RubricrmError | None = None
        self.started = time.perf_counter() if started is None else started
        self.admitted: float | None = None
        self.prefilled: float | None = None
        self.first_token: float | None = None
        self.ended: float | None = None
        self._completion = completion
        self._goes_in_circles = False
        self.cancel = cancel
        # Reentrant: a signal's handler may end the sequence that its own thread reads.
        self._lock = threading.RLock()
        # Of those that wait. Not a condition: that would lose the end that a handler brings just before the wait.
        self._wakers: list[SimpleQueue[None]] = []
        self._listeners: list[Callable[[], object]] = []
        _all.add(self)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more comes."""
        return self.state is State.FINISHED

    @property
    def is_cancelled(self) -> bool:
        """Whether its event is set."""
        return self.cancel is not None and self.cancel.is_set()

    @property
    def deadline(self) -> float | None:
        """When its time is up; None: never."""
        return None if self.options.timeout_s is None else self.started + self.options.timeout_s

    @property
    def tokens_left(self) -> int:
        """How many tokens may still come, the end included."""
        return self.max_new_tokens - len(self.token_ids)

    def admit(self, cached_tokens: int) -> None:
        """Begin, in a slot that holds the first tokens of the prompt."""
        with self._lock:
            if not self.is_finished:
                self.cached_tokens = cached_tokens
                self.admitted = time.perf_counter()
                self.state = State.PREFILLING

    def begin_decoding(self) -> None:
        """The prompt is computed: each further step decides tokens."""
        with self._lock:
            if not self.is_finished:
                self.prefilled = time.perf_counter()
                self.state = State.DECODING

    def push(self, token_id: int, logprobs: TokenLogprobs | None) -> None:
        """Take a token that was decided; nothing if the sequence has ended meanwhile."""
        with self._lock:
            if self.is_finished:
                return
            self.first_token = self.first_token or time.perf_counter()
            self.token_ids.append(token_id)
            if self.drafter is not None:
                self.drafter.push(token_id)
            if logprobs is not None:
                self.logprobs.append(logprobs)
            reason = "length" if len(self.token_ids) == self.max_new_tokens else None
            if self._completion is not None:
                piece, found = self._completion.push(token_id)
                reason = found if found == "stop" else reason or found
                if piece:
                    self.pieces.append(piece)
            if reason == "repetition" and self.constraint is not None:
                self._take_shortest_way(self.constraint)
            elif reason is not None:
                self._finish(reason)
        self._tell()

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
        """Raise what the sequence failed with, if it did."""
        if (error := self.error) is not None:
            raise type(error)(*error.args) from error  # a new one for each reader: a traceback is one thread's

    def end_in_fork(self) -> None:
        """Fail, in a process that has no thread to go on with it; whoever held the lock may not exist here either."""
        self._lock = threading.RLock()
        self._listeners.clear()
        self.fail(
            ModelClosed(f"the generation runs in another process than its fork {os.getpid()}. Open the model here.")
        )

    def _take_shortest_way(self, constraint: Constraint) -> None:
        """Leave room for nothing but a whole end: a form is never cut."""
        if not self._goes_in_circles:
            self._goes_in_circles = True
            self.max_new_tokens = len(self.token_ids) + constraint.shortest

    def _finish(self, reason: str) -> None:
        if reason == "stop" and self._goes_in_circles:
            reason = "repetition"
        if self._completion is not None:
            piece, is_stopped = self._completion.finish(is_whole=reason == "stop")
            reason = "stop" if is_stopped else reason
            if piece:
                self.pieces.append(piece)
        self.finish_reason = reason
        self._end()

    def _end(self) -> None:
        self.ended = time.perf_counter()
        self.state = State.FINISHED

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
    for sequence in list(_all):
        sequence.end_in_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_all_in_fork)
