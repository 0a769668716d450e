"""Who is computed next: the queue of those that wait for a slot, and what the next step computes of the others."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count

from rubricrm.errors import EngineBusy
from rubricrm.generation.deadlines import Deadlines
from rubricrm.generation.draft_desk import NO_DRAFT, DraftDesk, PricedDraft
from rubricrm.generation.sequence import Sequence, State
from rubricrm.generation.slot_pool import SlotPool
from rubricrm.runtime.slot import Chunk, Slot

# Most tokens of all prompts together in a step in which others decode: a long prompt takes several steps, so that the
# others never wait long for their next token.
MIXED_ROWS = 64


@dataclass(frozen=True)
class Work:
    """What a step computes for one sequence.

    Attributes:
        sequence: The sequence.
        chunk: The next tokens of its prompt; or its last token, and the draft of those that may follow.
        draft: That draft.
    """

    sequence: Sequence
    chunk: Chunk
    draft: PricedDraft = NO_DRAFT


class Scheduler:
    """Admits sequences by priority, then by arrival. Not safe from several threads: the engine holds a lock.

    A row is a token that a step computes. A step has `max_rows`: one for each sequence that decodes, the next ones for
    parts of prompts in the order of admission, what is left for drafts. So nobody that decodes waits for a newcomer's
    whole prompt, and nobody that waits is overtaken by a later one of its priority.
    """

    def __init__(self, slots: SlotPool, *, max_rows: int, max_waiting: int, drafts: DraftDesk | None = None) -> None:
        self._slots = slots
        self._desk = drafts
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._waiting: list[tuple[int, int, Sequence]] = []
        self._running: dict[Sequence, Slot] = {}  # in the order of admission
        self._arrival = count()
        self._deadlines = Deadlines()

    @property
    def is_full(self) -> bool:
        """Whether the queue is as long as it may be. It may hold some that have ended: `add` looks for those first."""
        return len(self._waiting) >= self._max_waiting

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for a slot.

        Raises:
            EngineBusy: `max_waiting` others wait already.
        """
        if self.is_full:
            self._waiting = [entry for entry in self._waiting if not entry[2].is_finished]
            heapq.heapify(self._waiting)
        if self.is_full:
            raise EngineBusy(
                f"{len(self._waiting)} requests wait already, which is the limit. Send fewer at once, try again later, "
                "or open the model with a larger max_waiting."
            )
        heapq.heappush(self._waiting, (-sequence.options.priority, next(self._arrival), sequence))
        self._deadlines.add(sequence)

    def take_due(self) -> list[Sequence]:
        """Return those whose time is up or whose cancel event is set, once; as `Deadlines.take_due`."""
        return self._deadlines.take_due()

    def schedule(self) -> list[Work]:
        """Take back the slots of who has ended, admit who waits, and return the work of the next step, if any."""
        self._retire()
        self._admit()
        decoding = [sequence for sequence in self._running if sequence.state is State.DECODING]
        rows = self._max_rows - len(decoding)
        prefill = self._prefill(min(rows, MIXED_ROWS) if decoding else rows)
        return self._decode(decoding, sum(len(work.chunk.token_ids) for work in prefill)) + prefill

    def sequences(self) -> list[Sequence]:
        """Return all that run, in the order of admission, and all that wait."""
        return [*self._running, *(entry[2] for entry in self._waiting)]

    def _retire(self) -> None:
        """Take back the slots of sequences that ended."""
        for sequence in [sequence for sequence in self._running if sequence.is_finished]:
            if self._desk is not None:
                self._desk.learn(sequence)
            self._slots.give_back(self._running.pop(sequence), [*sequence.prompt_ids, *sequence.token_ids])

    def _admit(self) -> None:
        """Lend slots to those that wait, until there is none for the first of them."""
        while self._waiting:
            sequence = self._waiting[0][2]
            if not sequence.is_finished:
                lent = self._slots.lend(sequence.prompt_ids, len(sequence.prompt_ids) + sequence.max_new_tokens)
                if lent is None:
                    return
                self._running[sequence], cached_tokens = lent
                sequence.admit(cached_tokens)
            heapq.heappop(self._waiting)

    def _decode(self, decoding: list[Sequence], prompt_rows: int) -> list[Work]:
        """Return the newest token of each, whose keys and values are not computed yet, and drafts where they pay."""
        drafts = [NO_DRAFT] * len(decoding)
        if self._desk is not None and decoding:
            rows_left = self._max_rows - prompt_rows - len(decoding)
            drafts = self._desk.drafts(decoding, rows_left=rows_left, other_rows=prompt_rows)
        works = []
        for sequence, draft in zip(decoding, drafts, strict=True):
            token_ids = [sequence.token_ids[-1], *draft.token_ids]
            works.append(Work(sequence, Chunk(self._running[sequence], token_ids, num_logits=len(token_ids)), draft))
        return works

    def _prefill(self, rows: int) -> list[Work]:
        """Return the next parts of prompts, at most so many rows together."""
        works = []
        for sequence, slot in self._running.items():
            if sequence.state is State.PREFILLING and rows > 0:
                start = slot.cache.length
                token_ids = sequence.prompt_ids[start : start + rows]
                is_last = start + len(token_ids) == len(sequence.prompt_ids)
                works.append(Work(sequence, Chunk(slot, token_ids, num_logits=int(is_last))))
                rows -= len(token_ids)
        return works
