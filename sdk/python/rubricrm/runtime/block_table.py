"""Which blocks of a device's memory hold the positions of each slot: paging, as in an operating system.

The idea is PagedAttention's (Kwon et al., arXiv 2309.06180): any block may hold any stretch of any sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Positions of a block. The kernel of CUDA's flash attention reads tiles of up to 256 positions, none of which may reach
# over the end of a block: smaller ones fall back to a slower kernel where heads are narrow.
BLOCK_POSITIONS = 256


class BlockTable:
    """Gives blocks to slots as their sequences grow.

    Attributes:
        num_blocks: How many there are.
        rows: int32 [slots, blocks_per_slot]: the block that holds positions 256 n to 256 n + 255 of a slot, in its
            column n. Columns beyond what a slot has are 0.
    """

    def __init__(self, num_slots: int, slot_positions: int, total_positions: int) -> None:
        """Give out nothing yet.

        Args:
            num_slots: How many slots there are.
            slot_positions: Most positions of one slot.
            total_positions: Positions that all slots may hold together, however they share them: each slot may waste
                all but one position of its last block, for which there is room beside them.
        """
        import numpy as np

        per_slot = blocks_for(slot_positions)
        self.num_blocks = min(blocks_for(total_positions) + num_slots - 1, num_slots * per_slot)
        self.rows: NDArray[np.int32] = np.zeros((num_slots, per_slot), np.int32)
        self._owned: list[list[int]] = [[] for _ in range(num_slots)]
        self._free = list(range(self.num_blocks))[::-1]

    def owned(self, slot: int) -> tuple[int, ...]:
        """Return the blocks of a slot, in the order of its positions."""
        return tuple(self._owned[slot])

    def reserve(self, slot: int, length: int) -> None:
        """Give a slot the blocks that it lacks for so many positions.

        Raises:
            ValueError: There are too few.
        """
        owned = self._owned[slot]
        missing = blocks_for(length) - len(owned)
        if missing > len(self._free):
            raise ValueError(
                f"{length} positions of slot {slot} need {missing} more blocks of {BLOCK_POSITIONS}, {len(self._free)} "
                f"of {self.num_blocks} are free"
            )
        for _ in range(missing):
            block = self._free.pop()
            self.rows[slot, len(owned)] = block
            owned.append(block)

    def release(self, slot: int) -> None:
        """Take all blocks of a slot back."""
        self._free += reversed(self._owned[slot])
        self._owned[slot].clear()
        self.rows[slot] = 0


def blocks_for(positions: int) -> int:
    """Return how many blocks hold so many positions."""
    return -(-positions // BLOCK_POSITIONS)
