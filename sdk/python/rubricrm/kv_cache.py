"""Keys and values of one sequence: buffers, length, rewind, prefix restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rubricrm.manifest import ModelFacts

# Buffers grow in steps, so that requests of nearly equal length share one.
_STEP = 256


class KVCache:
    """One buffer for all layers: [layers, 2, 1, kv_heads, capacity, head_dim], keys at 0 and values at 1.

    The graph reads the past from it and writes the present into it. Pages that no token has touched cost no memory.
    `length` counts the positions that hold a token; what lies beyond is never read.
    """

    def __init__(self, model: ModelFacts, kv_type: str, num_positions: int) -> None:
        import numpy as np

        capacity = min(-(-num_positions // _STEP) * _STEP, model.context_length)
        shape = (model.num_layers, 2, 1, model.num_kv_heads, capacity, model.head_dim)
        self.buffer: NDArray[np.generic] = np.zeros(shape, kv_type)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Most positions that the buffer holds."""
        return int(self.buffer.shape[4])

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on. Costs nothing: they are overwritten later."""
        self.length = min(self.length, length)

    def restore(self, prefix: NDArray[np.generic], length: int) -> None:
        """Hold the first `length` positions of a prefix, and nothing else. One copy.

        Args:
            prefix: [layers, 2, 1, kv_heads, positions, head_dim], of this cache's element type.
            length: At most the prefix's positions and the capacity.
        """
        self.buffer[:, :, :, :, :length] = prefix[:, :, :, :, :length]
        self.length = length

    def positions(self, length: int) -> NDArray[np.generic]:
        """Return a copy of the first `length` positions, in the shape that `restore` takes."""
        return self.buffer[:, :, :, :, :length].copy()
