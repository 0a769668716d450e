"""The generation loop: restore the prefix, prefill the rest, decode token by token."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rubricrm.errors import PromptTooLong
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sampling import TokenLogprobs, choose, logprobs
from rubricrm.runtime.manifest import Manifest
from rubricrm.runtime.prefix import Prefix
from rubricrm.runtime.prompt import common_prefix
from rubricrm.runtime.session import Session, Slot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Token:
    """One generated token. The one that ends a completion is not among them."""

    id: int
    logprobs: TokenLogprobs | None


class Generation:
    """One sequence on its way: what it may still do, and why it ended.

    Attributes:
        prompt_ids: The prompt.
        cached_tokens: How many of them were restored and not computed.
        num_tokens: Tokens generated so far, the end token not counted.
        finish_reason: One of `FINISH_REASONS`; None while running.
        seed: The seed in use, drawn if the options had none.
        started: `time.perf_counter()` when the request came in. All other times are of `now`, which begins there.
        prefill_started: When a slot was ready for the prompt.
        prefilled: When the prompt was computed, None until then.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        options: GenerationOptions,
        max_new_tokens: int,
        *,
        cancel: threading.Event | None = None,
        started: float | None = None,
    ) -> None:
        self.prompt_ids = list(prompt_ids)
        self.options = options
        self.max_new_tokens = max_new_tokens
        self.cached_tokens = 0
        self.num_tokens = 0
        self.finish_reason: str | None = None
        self.seed = int.from_bytes(os.urandom(8), "little") if options.seed is None else options.seed
        self.started = time.perf_counter() if started is None else started
        self.prefill_started = self.started
        self.prefilled: float | None = None
        self._paused_s = 0.0
        self._paused_since: float | None = None
        self._cancelled = False
        self._cancel = cancel

    def now(self) -> float:
        """Return the generation's own time in seconds: a clock that stands still during a pause."""
        since = self._paused_since
        return (time.perf_counter() if since is None else since) - self._paused_s

    def pause(self) -> None:
        """Stop the clock: whoever reads the generation is doing something else."""
        self._paused_since = time.perf_counter()

    def resume(self) -> None:
        """Let the clock run on after a pause."""
        if self._paused_since is not None:
            self._paused_s += time.perf_counter() - self._paused_since
            self._paused_since = None

    def cancel(self) -> None:
        """End before the next token, with finish_reason "cancelled". Safe from any thread."""
        self._cancelled = True

    def finish(self, reason: str) -> None:
        """End for a reason; the first one stands, but a text that is complete is complete."""
        if self.finish_reason is None or reason == "stop":
            self.finish_reason = reason

    def must_end(self) -> bool:
        """Whether it ended, was cancelled or ran out of time."""
        timeout = self.options.timeout_s
        if self._cancelled or (self._cancel is not None and self._cancel.is_set()):
            self.finish("cancelled")
        elif timeout is not None and self.now() - self.started >= timeout:
            self.finish("timeout")
        return self.finish_reason is not None


class Engine:
    """Runs generations on one session. Several threads may stream at once: each step takes its turn."""

    def __init__(self, session: Session, manifest: Manifest, prefix: Prefix | None) -> None:
        self._session = session
        self._manifest = manifest
        self._prefix = prefix
        self._stop_ids = frozenset(manifest.prompt.stop_ids)
        self._free_slots: list[Slot] = []
        self._is_closed = False

    def submit(
        self,
        prompt_ids: Sequence[int],
        options: GenerationOptions,
        *,
        cancel: threading.Event | None = None,
        started: float | None = None,
    ) -> Generation:
        """Check that a prompt fits, and return its generation, not yet started.

        New tokens are limited to what the context has room for; reaching that limit is finish_reason "length".

        Raises:
            PromptTooLong: The prompt leaves no room for a single new token.
        """
        context = self._manifest.model.context_length
        room = context - len(prompt_ids)
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {len(prompt_ids)} tokens, the context {context}: no room for a new token. "
                f"Shorten the request by at least {1 - room} tokens."
            )
        wanted = options.max_new_tokens or self._manifest.generation.max_new_tokens
        return Generation(prompt_ids, options, min(wanted, room), cancel=cancel, started=started)

    def stream(self, generation: Generation) -> Iterator[Token]:
        """Yield the tokens of a generation as they are decided. Ending the iteration early frees its slot."""
        with self._slot(generation) as slot:
            logits = self._prefill(generation, slot)
            while logits is not None and not generation.must_end():
                token = self._choose(generation, logits)
                if token.id in self._stop_ids:
                    generation.finish("stop")
                    return
                generation.num_tokens += 1
                if generation.num_tokens == generation.max_new_tokens:
                    generation.finish("length")
                yield token
                logits = None if generation.must_end() else self._session.run(slot, [token.id])[0]

    def _prefill(self, generation: Generation, slot: Slot) -> NDArray[np.float32] | None:
        """Return the logits after the prompt's last token; None if the generation had to end before."""
        ids = generation.prompt_ids
        generation.prefill_started = generation.now()
        generation.cached_tokens = self._restore(slot, ids)
        logits = None
        # In chunks: a long prompt must neither hold a row of activations for each token nor delay a cancellation.
        for start in range(generation.cached_tokens, len(ids), self._session.max_rows):
            if generation.must_end():
                return None
            logits = self._session.run(slot, ids[start : start + self._session.max_rows])[0]
        generation.prefilled = generation.now()
        return logits

    def _restore(self, slot: Slot, ids: Sequence[int]) -> int:
        if self._prefix is None:
            slot.cache.rewind(0)
            return 0
        # The last token is always run: its logits are wanted.
        length = min(common_prefix(self._prefix.token_ids, ids), len(ids) - 1)
        slot.cache.restore(self._prefix.positions, length)
        return length

    def _choose(self, generation: Generation, row: NDArray[np.float32]) -> Token:
        options = generation.options
        real = row[: self._manifest.tokenizer.num_tokens]
        token_id = choose(real, options, generation.seed, generation.num_tokens)
        scores = None if options.logprobs is None else logprobs(row, token_id, options.logprobs)
        return Token(token_id, scores)

    @contextmanager
    def _slot(self, generation: Generation) -> Iterator[Slot]:
        """Lend a slot that is large enough. One is kept for the next request: most are alike."""
        needed = len(generation.prompt_ids) + generation.max_new_tokens
        slot: Slot | None
        try:
            slot = self._free_slots.pop()
        except IndexError:
            slot = None
        if slot is not None and slot.cache.capacity < needed:
            slot = None  # freed before a larger one is made
        if slot is None:
            slot = self._session.new_slot(needed)
        try:
            yield slot
        finally:
            if not self._free_slots:
                self._free_slots.append(slot)
            if self._is_closed:  # a slot that came back late must not keep the graph in memory
                self._free_slots.clear()

    def close(self) -> None:
        """Free the slots and the session."""
        self._is_closed = True
        self._free_slots.clear()
        self._session.close()
