"""Keys and values of one sequence: buffers, length, rewind, prefix restore."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from rubricrm.runtime.array_address import address

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rubricrm.runtime.manifest import ModelFacts

# Element types of a cache, and numpy's type of the same size. It has no bfloat16 and no FP8: their bits are kept.
STORAGE_TYPES = {
    "float32": "float32",
    "float16": "float16",
    "bfloat16": "uint16",
    "int8": "int8",
    "float8e4m3fn": "uint8",
}
# The bits of numbers that numpy does not know: those of an exponent that marks infinity or NaN.
_NO_NUMBER_BITS = {"uint16": 0x7F80, "uint8": 0x7F}
_IS_LINUX = sys.platform == "linux"
_MAP_NORESERVE = 0x4000  # Linux's; Python's mmap names it from 3.13 on
# Buffers grow in steps, so that requests of nearly equal length share one.
_STEP = 256


def count_not_finite(positions: NDArray[np.generic]) -> int:
    """Return how many elements of a cache's storage type are NaN or infinite; integers never are."""
    import numpy as np

    bits = _NO_NUMBER_BITS.get(positions.dtype.name)
    if bits is not None:
        return int(np.count_nonzero((positions & np.array(bits, positions.dtype)) == bits))
    return int(positions.size - np.count_nonzero(np.isfinite(positions))) if positions.dtype.kind == "f" else 0


def capacity_for(model: ModelFacts, num_positions: int) -> int:
    """Return the capacity of a cache for so many tokens: the context at most."""
    return min(-(-num_positions // _STEP) * _STEP, model.context_length)


def bytes_per_position(model: ModelFacts, kv_type: str) -> int:
    """Return what the keys and values of one token take."""
    import numpy as np

    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * np.dtype(STORAGE_TYPES[kv_type]).itemsize


class Buffer(Protocol):
    """One slot's keys and values, in memory that the graph reads and writes.

    All of it is zero at first: a graph that attends over the whole buffer multiplies what no token has written by a
    weight of zero, and zero times NaN is NaN.
    """

    def write(self, positions: NDArray[np.generic], start: int, end: int) -> None:
        """Copy positions `start` to `end` of [layers, 2, 1, kv_heads, positions, head_dim] in.

        What lies before them stays; what follows them may change.
        """

    def read(self, length: int) -> NDArray[np.generic]:
        """Copy the first `length` positions out, in that shape."""

    def clear(self) -> None:
        """Make all of it zero again."""


class BoundBuffer(Buffer, Protocol):
    """A buffer of [layers, 2, 1, kv_heads, capacity, head_dim] elements."""

    def address(self, layer: int, half: int) -> int:
        """Where the keys (half 0) or values (half 1) of a layer lie: [1, kv_heads, capacity, head_dim]."""


class HostBuffer:
    """A buffer in this process's memory. Pages that no token has touched cost none."""

    def __init__(self, shape: tuple[int, ...], storage_type: str) -> None:
        import numpy as np

        self.array: NDArray[np.generic] = np.zeros(shape, storage_type)

    def address(self, layer: int, half: int) -> int:
        """As `BoundBuffer`."""
        return address(self.array[layer, half])

    def write(self, positions: NDArray[np.generic], start: int, end: int) -> None:
        """As `Buffer`."""
        self.array[:, :, :, :, start:end] = positions[:, :, :, :, start:end]

    def read(self, length: int) -> NDArray[np.generic]:
        """As `Buffer`."""
        return self.array[:, :, :, :, :length].copy()

    def clear(self) -> None:
        """As `Buffer`."""
        self.array.fill(0)


class SlotMemory:
    """Keys and values of several slots in one mapping that a graph reads and writes whole.

    It is reserved, not taken: a page costs memory from the first token that is written to it, so that every slot has
    room for the whole context. Huge pages are refused, since one would hold thousands of positions.

    Attributes:
        array: [layers, 2, slots, kv_heads, capacity, head_dim], zero at first.
    """

    def __init__(self, shape: tuple[int, ...], storage_type: str) -> None:
        import numpy as np

        size = math.prod(shape) * np.dtype(storage_type).itemsize
        kind = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE} if _IS_LINUX else {}
        self._map = mmap.mmap(-1, size, **kind)
        if _IS_LINUX:
            self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self.array: NDArray[np.generic] = np.frombuffer(self._map, storage_type).reshape(shape)

    def release(self, slot: int) -> None:
        """Make a slot's memory zero, and give its pages back to the system."""
        for block in (half for layer in self.array for half in layer[:, slot]):
            start = address(block) - address(self.array)
            first, last = -(-start // mmap.PAGESIZE), (start + block.nbytes) // mmap.PAGESIZE
            if not _IS_LINUX or first >= last:
                block.fill(0)
                continue
            self._map.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)
            flat = block.reshape(-1).view("uint8")  # what shares a page with another block
            flat[: first * mmap.PAGESIZE - start] = 0
            flat[last * mmap.PAGESIZE - start :] = 0


class SlotBuffer(HostBuffer):
    """One slot's part of a memory."""

    def __init__(self, memory: SlotMemory, slot: int) -> None:
        self.array = memory.array[:, :, slot : slot + 1]
        self._memory, self._slot = memory, slot

    def clear(self) -> None:
        """As `Buffer`."""
        self._memory.release(self._slot)


class DeviceBuffer:
    """A buffer in a device's memory: one value a layer, which ONNX Runtime copies whole or not at all.

    The values are bytes: ONNX Runtime copies what numpy has a type for, and it has none for bfloat16 and FP8.
    """

    def __init__(self, shape: tuple[int, ...], storage_type: str, allocate: Callable[[tuple[int, ...]], Any]) -> None:
        """Allocate.

        Args:
            shape: As `Buffer`.
            storage_type: numpy's type of an element's size.
            allocate: Returns an OrtValue of bytes of a shape, on the device.
        """
        import numpy as np

        num_layers, *per_layer, head_dim = shape
        self._storage_type = np.dtype(storage_type)
        self._shape = (*per_layer, head_dim * self._storage_type.itemsize)
        self._half_bytes = int(np.prod(self._shape[1:]))
        self._layers = [allocate(self._shape) for _ in range(num_layers)]
        self.clear()

    def address(self, layer: int, half: int) -> int:
        """As `BoundBuffer`."""
        return int(self._layers[layer].data_ptr()) + half * self._half_bytes

    def write(self, positions: NDArray[np.generic], start: int, end: int) -> None:  # noqa: ARG002 (copied from 0)
        """As `Buffer`; the positions before `start` are written again."""
        import numpy as np

        staging = np.zeros(self._shape, np.uint8)
        for layer, value in enumerate(self._layers):
            staging.view(self._storage_type)[:, :, :, :end] = positions[layer, :, :, :, :end]
            value.update_inplace(staging)

    def read(self, length: int) -> NDArray[np.generic]:
        """As `Buffer`."""
        import numpy as np

        layers = [value.numpy().view(self._storage_type)[:, :, :, :length] for value in self._layers]
        return np.stack(layers)

    def clear(self) -> None:
        """As `Buffer`: a copy of the buffer's size, as allocated memory holds what was there before."""
        import numpy as np

        zeros = np.zeros(self._shape, np.uint8)
        for value in self._layers:
            value.update_inplace(zeros)


class KVCache:
    """Keys and values of all layers, in memory that the graph reads the past from and writes the present into.

    Attributes:
        length: Positions that hold a token; what lies beyond is never read.
        buffer: The memory.
    """

    def __init__(
        self,
        model: ModelFacts,
        kv_type: str,
        num_positions: int,
        make_buffer: Callable[[tuple[int, ...], str], Buffer] = HostBuffer,
    ) -> None:
        """Allocate room for at least `num_positions` tokens, the context at most.

        Args:
            model: Sizes.
            kv_type: Element type, as in the manifest.
            num_positions: Tokens that must fit.
            make_buffer: Allocates elements of a shape and of a storage type.
        """
        self.capacity = capacity_for(model, num_positions)
        self.length = 0
        heads = (1, model.num_kv_heads, self.capacity, model.head_dim)
        self.buffer = make_buffer((model.num_layers, 2, *heads), STORAGE_TYPES[kv_type])
        self._restored: NDArray[np.generic] | None = None
        self._num_restored = 0

    def advance(self, count: int) -> None:
        """Count tokens whose keys and values the graph has appended."""
        self.length += count

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on. Costs nothing: they are overwritten later."""
        self.length = min(self.length, length)
        self._num_restored = min(self._num_restored, length)

    def clear(self) -> None:
        """Forget everything, and make the memory zero: after a run whose numbers were none."""
        self.buffer.clear()
        self.length = self._num_restored = 0

    def restore(self, prefix: NDArray[np.generic], length: int) -> None:
        """Hold the first `length` positions of a prefix, and nothing else.

        Tokens are only ever appended after a prefix: what an earlier call restored from the same array is still
        there, and only the rest is copied. In a fresh cache that is everything.

        Args:
            prefix: [layers, 2, 1, kv_heads, positions, head_dim] of the cache's storage type. It must not change.
            length: At most the prefix's positions and the capacity.
        """
        start = min(self._num_restored, length) if prefix is self._restored else 0
        if start < length:
            self.buffer.write(prefix, start, length)
        self._restored, self._num_restored = prefix, length
        self.length = length

    def copy(self, source: KVCache, length: int) -> None:
        """Append positions of another cache of the graph, up to `length`: what this one holds are the same tokens."""
        held = source.buffer.array if isinstance(source.buffer, HostBuffer) else source.positions(length)
        self.buffer.write(held, self.length, length)
        self.length = length

    def positions(self, length: int) -> NDArray[np.generic]:
        """Return a copy of the first `length` positions, in the shape that `restore` takes."""
        return self.buffer.read(length)
