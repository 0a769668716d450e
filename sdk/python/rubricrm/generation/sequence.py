"""One generation on its way through the engine: what it asked for, what it has, where it stands."""

from __future__ import annotations

import threading
import time
from enum import Enum

from rubricrm.generation.completion import Completion
from rubricrm.generation.constraint import Constraint, Overrules
from rubricrm.generation.drafting import Drafter
from rubricrm.generation.generation import Generation
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.result import Usage
from rubricrm.generation.sampling import TokenLogprobs


class State(Enum):
    """Where a sequence stands."""

    WAITING = "waiting"  # for a slot
    PREFILLING = "prefilling"  # its prompt is computed, chunk by chunk
    DECODING = "decoding"  # each step decides a token, or several
    FINISHED = "finished"


class Sequence(Generation):
    """A prompt and the tokens that follow it, which the engine's thread decides.

    Attributes:
        max_new_tokens: Most tokens that may follow; fewer once a text in a form goes in circles.
        is_rubric: Whether what follows is a rubric.
        constraint: What holds it to a form, and what that has overruled; None: nothing does.
        drafter: What drafts for it; None: nothing is drafted.
        drafted_tokens: Drafted tokens that were verified.
        accepted_tokens: How many of them came true.
        state: Where it stands.
        cached_tokens: How many of the prompt were restored and not computed.
        token_ids: Tokens that were decided; the one that ends a completion is not among them.
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
        super().__init__(prompt_ids, options, cancel=cancel, started=started)
        self.max_new_tokens = max_new_tokens
        self.is_rubric = is_rubric
        self.constraint = constraint
        self.drafter = drafter
        self.drafted_tokens = self.accepted_tokens = 0
        self.state = State.WAITING
        self.cached_tokens = 0
        self.token_ids: list[int] = []
        self._completion = completion
        self._goes_in_circles = False

    @property
    def usage(self) -> Usage:
        """The tokens so far."""
        return Usage(
            prompt_tokens=len(self.prompt_ids),
            cached_prompt_tokens=self.cached_tokens,
            completion_tokens=len(self.token_ids),
            drafted_tokens=self.drafted_tokens,
            accepted_tokens=self.accepted_tokens,
        )

    @property
    def overrules(self) -> Overrules | None:
        """What the constraint has overruled; None where there is none."""
        return None if self.constraint is None else self.constraint.overrules

    @property
    def status(self) -> str:
        """Its state's word."""
        return self.state.value

    @property
    def is_finished(self) -> bool:
        """Whether nothing more comes."""
        return self.state is State.FINISHED

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
        super()._finish(reason)

    def _end(self) -> None:
        super()._end()
        self.state = State.FINISHED
