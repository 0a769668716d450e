"""Keys and values in blocks, in a device's memory: what graphs of PagedAttention read and write in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rubricrm.runtime.block_table import BLOCK_POSITIONS, BlockTable
from rubricrm.runtime.device_lock import DEVICE_LOCK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PagedMemory:
    """One value for the keys and one for the values of each layer, [blocks, 256, kv_heads, head_dim], zero at first.

    The values are bytes, as in `DeviceBuffer`. A part of a value is copied through a view of its memory.

    Attributes:
        table: Which slot has which blocks.
        shape: Of each value, in elements.
    """

    def __init__(
        self,
        table: BlockTable,
        num_layers: int,
        heads: tuple[int, int],
        storage_type: str,
        allocate: Callable[[tuple[int, ...]], Any],
        view: Callable[[int, tuple[int, ...]], Any],
    ) -> None:
        """Allocate.

        Args:
            table: Knows the number of blocks.
            num_layers: Of the model.
            heads: kv_heads and head_dim.
            storage_type: numpy's type of an element's size.
            allocate: Returns a value of bytes of a shape, on the device.
            view: Returns a value of bytes of a shape, over the memory at an address on the device.
        """
        import numpy as np

        self.table = table
        self.shape = (table.num_blocks, BLOCK_POSITIONS, *heads)
        self._storage_type = np.dtype(storage_type)
        self._view = view
        kv_heads, head_dim = heads
        self._position = (kv_heads, head_dim * self._storage_type.itemsize)  # bytes
        block = (BLOCK_POSITIONS, *self._position)
        zeros = np.zeros((table.num_blocks, *block), np.uint8)
        self._layers = [[allocate(zeros.shape) for _ in range(2)] for _ in range(num_layers)]
        for value in (half for layer in self._layers for half in layer):
            value.update_inplace(zeros)

    def address(self, layer: int, half: int) -> int:
        """Where the keys (half 0) or values (half 1) of a layer lie."""
        return int(self._layers[layer][half].data_ptr())

    def write(self, slot: int, positions: NDArray[np.generic], start: int, end: int) -> None:
        """Copy positions `start` to `end` of [layers, 2, 1, kv_heads, positions, head_dim] in, as far as they reach."""
        import numpy as np

        self.table.reserve(slot, end)
        for block, first, last in self._stretches(slot, start, end):
            # In memory a position's heads lie together.
            part = np.ascontiguousarray(positions[:, :, 0, :, first:last].swapaxes(2, 3)).view(np.uint8)
            for layer, halves in enumerate(part):
                for half, source in enumerate(halves):
                    self._part(layer, half, block, first, last).update_inplace(source)

    def read(self, slot: int, length: int) -> NDArray[np.generic]:
        """Copy the first `length` positions out, [layers, 2, 1, kv_heads, length, head_dim]."""
        import numpy as np

        num_layers, (_, _, kv_heads, head_dim) = len(self._layers), self.shape
        found = np.empty((num_layers, 2, 1, kv_heads, length, head_dim), self._storage_type)
        for block, first, last in self._stretches(slot, 0, length):
            for layer in range(num_layers):
                for half in range(2):
                    part = self._part(layer, half, block, first, last).numpy().view(self._storage_type)
                    found[layer, half, 0, :, first:last] = part.swapaxes(0, 1)
        return found

    def clear(self, slot: int) -> None:
        """Make a slot's blocks zero and take them back: who gets one next finds nothing in it."""
        import numpy as np

        zeros = np.zeros((BLOCK_POSITIONS, *self._position), np.uint8)
        for block in self.table.owned(slot):
            for layer in range(len(self._layers)):
                for half in range(2):
                    self._part(layer, half, block, 0, BLOCK_POSITIONS).update_inplace(zeros)
        self.table.release(slot)

    def _stretches(self, slot: int, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield each block that holds positions of a range, with the first of them and the one after the last."""
        for number, block in enumerate(self.table.owned(slot)):
            first, last = max(start, number * BLOCK_POSITIONS), min(end, (number + 1) * BLOCK_POSITIONS)
            if first < last:
                yield block, first, last

    def _part(self, layer: int, half: int, block: int, first: int, last: int) -> Any:
        """Return a value over positions of one block, [positions, kv_heads, bytes of a head]."""
        kv_heads, head_bytes = self._position
        offset = (block * BLOCK_POSITIONS + first % BLOCK_POSITIONS) * kv_heads * head_bytes
        return self._view(self.address(layer, half) + offset, (last - first, *self._position))


class PagedBuffer:
    """One slot's part of a memory: as `Buffer`."""

    def __init__(self, memory: PagedMemory, slot: int) -> None:
        self._memory, self._slot = memory, slot

    def write(self, positions: NDArray[np.generic], start: int, end: int) -> None:
        """As `Buffer`."""
        with DEVICE_LOCK:
            self._memory.write(self._slot, positions, start, end)

    def read(self, length: int) -> NDArray[np.generic]:
        """As `Buffer`."""
        with DEVICE_LOCK:
            return self._memory.read(self._slot, length)

    def clear(self) -> None:
        """As `Buffer`; its blocks go back."""
        with DEVICE_LOCK:
            self._memory.clear(self._slot)
