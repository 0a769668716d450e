"""Where sequences keep their keys and values between steps: slots, several of which one memory may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rubricrm.runtime.concatenated_cache import ConcatenatedCache
from rubricrm.runtime.kv_cache import KVCache
from rubricrm.runtime.step_inputs import StepInputs
from rubricrm.runtime.step_memory import StepMemory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Arena:
    """Slots whose memory is bound to the graph together, and what else a run on them needs.

    Where past and present are the same memory they are bound once: no token copies them. Several slots are only where
    one run takes any mix of them.

    Attributes:
        slots: The slots.
        binding: The runtime's.
        inputs: Makes a run's other inputs.
        step_memory: Where runs of a paged graph have their inputs and logits on a device; else None.
        device_logits: Memory for logits of other runs on a device; None until a run has needed it.
        bound: Where the inputs of the run before lie that a host reads in place, and their shapes.
    """

    def __init__(
        self,
        binding: Any,
        inputs: StepInputs,
        caches: Sequence[KVCache | ConcatenatedCache],
        step_memory: StepMemory | None = None,
    ) -> None:
        import numpy as np

        self.binding = binding
        self.inputs = inputs
        self.step_memory = step_memory
        self.slots = tuple(Slot(self, number, cache) for number, cache in enumerate(caches))
        self.device_logits: Any = None
        self.bound: dict[str, tuple[int, tuple[int, ...]]] = {}
        self.base_slots: NDArray[np.int64] = np.full(len(caches), -1)
        self.base_lengths: NDArray[np.int64] = np.zeros(len(caches), np.int64)


class Slot:
    """Room for one sequence.

    Attributes:
        arena: What it is part of.
        number: Its place there.
        cache: Its keys and values, and how many there are.
    """

    def __init__(self, arena: Arena, number: int, cache: KVCache | ConcatenatedCache) -> None:
        self.arena = arena
        self.number = number
        self.cache = cache

    def borrow(self, base: Slot, length: int) -> None:
        """Begin a sequence with the first `length` positions of another slot of the arena: nothing is copied.

        They must stay what they are as long as this slot borrows them, and not be borrowed themselves.
        """
        self.cache.rewind(0)
        self.cache.advance(length)
        self.arena.base_slots[self.number] = base.number
        self.arena.base_lengths[self.number] = length

    def restore(self, positions: NDArray[Any], length: int) -> None:
        """Begin a sequence with a copy of positions that another cache gave; as `KVCache.restore`."""
        self.arena.base_lengths[self.number] = 0
        self.cache.restore(positions, length)

    def copy(self, source: Slot, length: int) -> None:
        """Append positions of another slot, up to `length`: ones that it does not borrow, after the same tokens."""
        self.cache.copy(cast("Any", source.cache), length)  # of one graph, so of one class

    def clear(self) -> None:
        """Forget everything, and make the memory zero: after a run whose numbers were none."""
        self.arena.base_lengths[self.number] = 0
        self.cache.clear()

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on, borrowed ones too: the slot then writes its own in their place."""
        self.cache.rewind(length)
        self.arena.base_lengths[self.number] = min(self.arena.base_lengths[self.number], length)


@dataclass(frozen=True)
class Chunk:
    """Tokens of one slot that a step appends.

    Attributes:
        slot: Its cache must have room for the tokens.
        token_ids: At least one.
        num_logits: After how many of its last tokens logits are wanted; maybe none.
    """

    slot: Slot
    token_ids: Sequence[int]
    num_logits: int = 1


def by_arena(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Return the chunks of each arena, in their order."""
    groups: dict[Arena, list[Chunk]] = {}
    for chunk in chunks:
        groups.setdefault(chunk.slot.arena, []).append(chunk)
    return list(groups.values())
