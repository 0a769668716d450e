"""Slots for sequences: lent with as much of their prompt as is at hand, and kept for the next that begins alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rubricrm.errors import PromptTooLong, RequestInvalid
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.runtime.kv_cache import bytes_per_position
from rubricrm.runtime.manifest import ModelFacts
from rubricrm.runtime.prefix import Prefix
from rubricrm.runtime.prompt import common_prefix
from rubricrm.runtime.session import Session
from rubricrm.runtime.slot import Slot

# What the slots of a device's memory have room for on the average, unless `max_memory` says how much to take: a whole
# context for each would be more than devices have, and a rubric needs a fourth of this.
_PAGED_POSITIONS = 2048
# A prompt waits for at least so many tokens that another sequence is about to compute: as many as a step takes of a
# prompt while others decode.
_WORTH_WAITING = 64


@dataclass(frozen=True)
class _Loan:
    """What a slot is lent for: positions that are promised to it, and the prompt."""

    num_positions: int
    prompt_ids: Sequence[int]


class SlotPool:
    """Lends up to `max_concurrency` slots.

    A slot that comes back keeps what it holds until another sequence needs it: a second request that begins as an
    earlier one (a retry, a vote, another question about the same long text) computes only what differs. What a prompt
    has in common with the fixed prefix is never computed. It is copied once into each slot, or not at all where all may
    borrow it from a slot of its own.

    What another sequence has computed is copied while that one still runs. What it is just computing is waited for: of
    several votes on one prompt, the first one computes it.

    Attributes:
        room: Most positions of one slot.
    """

    def __init__(
        self,
        session: Session,
        model: ModelFacts,
        prefix: Prefix | None,
        options: EngineOptions,
    ) -> None:
        """Allocate nothing yet."""
        self._session = session
        self._context = model.context_length
        self._prefix = prefix
        self._count = min(options.max_concurrency, session.max_rows)  # so that each has a row in every step
        self._max_positions = self._count * self._context
        if session.is_paged:
            self._max_positions = max(self._context, self._count * min(self._context, _PAGED_POSITIONS))
        if options.max_memory is not None:
            self._max_positions = options.max_memory // bytes_per_position(model, session.facts.kv_type)
        self.room = min(self._context, self._max_positions)
        self._keeps_prompts = options.keep_prompts
        self._prefix_slot: Slot | None = None
        self._lent: dict[Slot, _Loan] = {}
        self._free: dict[Slot, list[int]] = {}  # with the tokens that each holds, the one used last at the end
        self._touched: dict[Slot, int] = {}  # positions whose memory is in use, whatever they hold

    def room_after(self, prompt_ids: Sequence[int]) -> int:
        """Return how many tokens may follow a prompt.

        Raises:
            PromptTooLong: None may.
            RequestInvalid: The prompt is empty.
        """
        if not prompt_ids:
            raise RequestInvalid("the prompt has no tokens, expected at least one.")
        room = self.room - len(prompt_ids)
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {len(prompt_ids)} tokens, the context {self.room}: no room for a new token. Shorten "
                f"the request by at least {1 - room} tokens."
            )
        return room

    def lend(self, prompt_ids: Sequence[int], num_positions: int) -> tuple[Slot, int] | None:
        """Return a slot with room for so many positions, and how many of the prompt's tokens it holds already.

        The prompt's last token is never among them: its logits are wanted.

        Returns:
            None while other sequences hold what is needed, or compute what this prompt begins with.
        """
        if len(self._lent) == self._count or not self._fits(num_positions):
            return None
        num_fixed = 0 if self._prefix is None else _common(self._prefix.token_ids, prompt_ids)
        wanted, num_held = self._best(prompt_ids, num_positions, num_fixed)
        source, num_ready, num_coming = self._source(prompt_ids)
        if num_coming > num_ready and num_coming - num_held >= _WORTH_WAITING:
            return None
        self._make_room(num_positions, wanted)
        slot = wanted if wanted in self._free else self._new_slot(num_positions)
        num_held = max(_common(self._free.pop(slot, ()), prompt_ids), num_fixed)
        if num_held > num_fixed:
            slot.rewind(num_held)
        else:
            self._restore(slot, num_fixed)
        if source is not None and num_ready > num_held:
            slot.copy(source, num_ready)
        self._lent[slot] = _Loan(num_positions, prompt_ids)
        return slot, slot.cache.length

    def give_back(self, slot: Slot, token_ids: Sequence[int]) -> None:
        """Take a slot back, and what tokens it holds."""
        del self._lent[slot]
        self._touched[slot] = max(self._touched.get(slot, 0), slot.cache.length)
        self._free[slot] = list(token_ids[: slot.cache.length]) if self._keeps_prompts else []

    def clear(self) -> None:
        """Forget all slots that are not lent."""
        self._free.clear()
        self._touched.clear()
        self._prefix_slot = None

    def _best(self, prompt_ids: Sequence[int], num_positions: int, num_fixed: int) -> tuple[Slot | None, int]:
        """Return the free slot that holds most of the prompt, of equal ones the oldest, and how much that is.

        The slot is None if none is large enough. The fixed part counts for all alike: it comes from the prefix, and is
        no reason to give up another prompt.
        """
        found = [
            (max(_common(token_ids, prompt_ids), num_fixed), slot)
            for slot, token_ids in self._free.items()
            if slot.cache.capacity >= num_positions
        ]
        num_held, slot = max(found, key=lambda pair: pair[0], default=(num_fixed, None))
        return slot, num_held

    def _source(self, prompt_ids: Sequence[int]) -> tuple[Slot | None, int, int]:
        """Return the lent slot that holds most of the prompt, how much that is, and how much one will hold soon."""
        if not self._keeps_prompts:
            return None, 0, 0
        coming = {slot: _common(loan.prompt_ids, prompt_ids) for slot, loan in self._lent.items()}
        ready = {slot: min(count, slot.cache.length) for slot, count in coming.items()}
        slot = max(ready, key=lambda lent: ready[lent], default=None)
        return slot, 0 if slot is None else ready[slot], max(coming.values(), default=0)

    def _new_slot(self, num_positions: int) -> Slot:
        if not self._session.takes_any_mix:
            if len(self._lent) + len(self._free) == self._count:  # all free ones are too small
                self._forget(next(iter(self._free)))
            return self._session.new_slot(num_positions)
        slots: Sequence[Slot]
        if self._session.is_paged:
            slots = self._session.new_slots(self._count, self._context, self._max_positions)
        else:
            self._prefix_slot, *slots = self._session.new_slots(self._count + 1, self._context)
            if self._prefix is not None:
                self._prefix_slot.restore(self._prefix.positions, len(self._prefix.token_ids))
        self._free = {slot: [] for slot in slots}
        return slots[0]

    def _restore(self, slot: Slot, length: int) -> None:
        if self._prefix is None:
            slot.rewind(0)
        elif self._prefix_slot is None:
            slot.restore(self._prefix.positions, length)
        else:
            slot.borrow(self._prefix_slot, length)

    def _promised(self) -> int:
        return sum(max(loan.num_positions, self._touched.get(slot, 0)) for slot, loan in self._lent.items())

    def _fits(self, num_positions: int) -> bool:
        """Whether so many positions fit beside those that are promised."""
        promised = self._promised()
        return not promised or promised + num_positions <= self._max_positions

    def _make_room(self, num_positions: int, wanted: Slot | None) -> None:
        """Give up what is only kept until so many positions fit beside those that are promised.

        The oldest goes first, and last of all what the wanted slot holds.
        """
        promised = self._promised()
        for slot in sorted(self._free, key=lambda free: free is wanted):
            needed = max(num_positions, self._touched.get(wanted, 0)) if wanted is not None else num_positions
            kept = sum(self._touched.get(free, 0) for free in self._free if free is not wanted)
            if promised + needed + kept <= self._max_positions:
                break
            self._forget(slot)

    def _forget(self, slot: Slot) -> None:
        self._touched.pop(slot, None)
        if self._session.takes_any_mix:
            slot.clear()
            self._free[slot] = []
        else:
            del self._free[slot]


def _common(held: Sequence[int], prompt_ids: Sequence[int]) -> int:
    return min(common_prefix(held, prompt_ids), len(prompt_ids) - 1)
