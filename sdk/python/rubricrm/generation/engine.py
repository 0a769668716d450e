"""The engine: any number of requests, one step after the other, each step a few tokens of many sequences."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING

from rubricrm.errors import ModelClosed, OutputInvalid, RubricrmError, RuntimeFailed
from rubricrm.generation.completion import Completion
from rubricrm.generation.constraint import constrain
from rubricrm.generation.decision import decide
from rubricrm.generation.draft_desk import DraftDesk
from rubricrm.generation.driver import Driver
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.grammar import Grammar
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.scheduler import Scheduler, Work
from rubricrm.generation.sequence import Sequence, State
from rubricrm.generation.slot_pool import SlotPool
from rubricrm.runtime.manifest import Manifest
from rubricrm.runtime.prefix import Prefix
from rubricrm.runtime.session import Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_open_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine:
    """Runs sequences on one session. Its methods are safe from any thread, in listeners and signal handlers too.

    A sequence waits for a slot, has its prompt computed chunk by chunk, and then gets at least one token from each step
    until it ends. A thread of the engine's own does the steps, as long as there is anything to compute.
    """

    def __init__(
        self,
        session: Session,
        manifest: Manifest,
        prefix: Prefix | None,
        options: EngineOptions | None = None,
        *,
        prompt: str | None = None,
        grammar: Grammar | None = None,
        drafts: DraftDesk | None = None,
    ) -> None:
        """Take no memory and start no thread yet.

        Args:
            session: What computes; it is closed with the engine.
            manifest: Of the bundle that the session has open.
            prefix: Keys and values that prompts begin with.
            options: What is taken on at once, and what is kept.
            prompt: The name of the prompt whose stop ids end a text; None: the manifest's main one.
            grammar: The form of rubrics.
            drafts: Proposes tokens that may follow, where verifying them in one step is worth it.
        """
        options = options or EngineOptions()
        self._session = session
        self._manifest = manifest
        self._stop_ids = frozenset(manifest.prompt_of(prompt or manifest.prompt_name).stop_ids)
        self._slots = SlotPool(session, manifest.model, prefix, options)
        self._grammar = grammar
        self._desk = drafts
        self._scheduler = Scheduler(
            self._slots, max_rows=session.max_rows, max_waiting=options.max_waiting, drafts=drafts
        )
        self._lock = threading.RLock()  # a signal's handler may close what its own thread submits to
        self._driver = Driver(self.step, self._fail_after)
        self._process = os.getpid()
        _open_engines.add(self)

    def submit(
        self,
        prompt_ids: list[int],
        options: GenerationOptions,
        *,
        is_rubric: bool = False,
        completion: Completion | None = None,
        cancel: threading.Event | None = None,
        started: float | None = None,
    ) -> Sequence:
        """Check that a prompt fits, and let it be computed; arguments as `Sequence`.

        New tokens are limited to what there is room for; reaching that limit is finish_reason "length".

        Raises:
            PromptTooLong: The prompt leaves no room for a single new token.
            EngineBusy: `max_waiting` others wait already.
            ModelClosed: The engine was closed, or made before this process was forked.
            RuntimeFailed: The system starts no more threads.
        """
        wanted = options.max_new_tokens or self._manifest.generation.max_new_tokens
        max_new_tokens = min(wanted, self._slots.room_after(prompt_ids))
        form = self._grammar if is_rubric and options.constrain else None
        sequence = Sequence(
            prompt_ids,
            options,
            max_new_tokens,
            is_rubric=is_rubric,
            completion=completion,
            constraint=constrain(options.grammar or form, max_new_tokens),
            drafter=None if self._desk is None else self._desk.drafter(prompt_ids, is_rubric=is_rubric),
            cancel=cancel,
            started=started,
        )
        self._session.check_open()  # before the lock: in a fork, whoever held it may not exist
        if self._scheduler.is_full:  # without the lock, as a hint: `add` decides
            self._end_due()
        with self._lock:
            self._session.check_open()  # again: `close` may have ended all sequences meanwhile, and not this one
            self._scheduler.add(sequence)
        try:
            self._driver.wake()
        except RubricrmError as error:
            sequence.fail(error)
            raise
        return sequence

    def step(self) -> bool:
        """Compute what the scheduler chooses; return whether there was anything. For the driver alone."""
        self._end_due()
        with self._lock:
            works = self._scheduler.schedule()
        if not works:
            return False
        try:
            logits = self._session.step([work.chunk for work in works])
        except RubricrmError as error:
            for work in works:
                work.sequence.fail(error)
            return True
        for work, found in zip(works, logits, strict=True):
            self._hand_out(work, found)
        return True

    def _hand_out(self, work: Work, logits: NDArray[np.float32]) -> None:
        """Give a sequence what a step has computed for it."""
        if work.chunk.num_logits == 0:  # a part of a prompt, not the last one
            return
        sequence = work.sequence
        try:
            self._session.check_finite(work.chunk, logits)
        except OutputInvalid as error:
            sequence.fail(error)
            return
        if sequence.state is State.PREFILLING:
            sequence.begin_decoding()
        num_tokens = self._manifest.tokenizer.num_tokens
        num_accepted = decide(sequence, logits, work.draft.token_ids, num_tokens, self._stop_ids)
        # Keys and values of refused drafts go. The newest token is computed by the next step.
        work.chunk.slot.rewind(len(sequence.prompt_ids) + max(0, len(sequence.token_ids) - 1))
        if self._desk is not None:
            self._desk.settle(sequence, work.draft, num_accepted)

    def _fail_after(self, error: Exception) -> None:
        """End everything after what the driver met: a slot could not be made, or a step raised what it should not."""
        if not isinstance(error, RubricrmError):
            logger.error("a step of the engine failed", exc_info=error)
            error = RuntimeFailed(f"a step of the engine failed: {error!r}. It is rubricrm's fault: please report it.")
        self._fail_all(error)

    def _end_due(self) -> None:
        """End what is cancelled or out of time."""
        with self._lock:
            due = self._scheduler.take_due()
        for sequence in due:
            sequence.end_if_due()

    def _fail_all(self, error: RubricrmError) -> None:
        for sequence in self._sequences():
            sequence.fail(error)

    def _sequences(self) -> list[Sequence]:
        with self._lock:
            return self._scheduler.sequences()

    def close(self) -> None:
        """End every sequence with ModelClosed, free slots and session. A step under way ends at its next operator."""
        self._session.close()
        if self._process != os.getpid():  # whoever held the locks may not exist here
            return
        self._driver.stop()
        closed = ModelClosed("the model was closed. Open it again.")
        self._fail_all(closed)
        with self._lock:
            self._scheduler.schedule()  # all have ended: it only takes their slots back
            self._slots.clear()


@atexit.register
def _close_all() -> None:
    """A thread must not be inside the runtime while the interpreter is taken down."""
    for engine in list(_open_engines):
        engine.close()
