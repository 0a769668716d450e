"""Keys and values of one sequence, for graphs that return them joined to the past: a new tensor a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rubricrm.runtime.kv_cache import STORAGE_TYPES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rubricrm.runtime.manifest import ModelFacts

NAMES = ("key", "value")


class ConcatenatedCache:
    """The runtime's own tensors, handed from run to run: what such a graph computed is not copied again.

    Each run of the graph itself copies the whole past. For graphs that this project did not author.

    Attributes:
        length: Positions that hold a token.
        capacity: Tokens that may be appended.
    """

    def __init__(self, model: ModelFacts, kv_type: str, make_value: Callable[[NDArray[np.generic]], Any]) -> None:
        """Hold nothing.

        Args:
            model: Sizes.
            kv_type: Element type, as in the manifest.
            make_value: Returns the runtime's value of an array.
        """
        import numpy as np

        self.capacity = model.context_length
        self.length = 0
        self._make_value = make_value
        shape = (model.num_layers, 2, 1, model.num_kv_heads, 0, model.head_dim)
        self._empty: NDArray[np.generic] = np.zeros(shape, STORAGE_TYPES[kv_type])
        self._values: list[Any] = []
        self._num_held = -1

    def pasts(self) -> Iterator[tuple[str, Any]]:
        """Yield the names of the graph's inputs and their values, cut to the length."""
        if self._num_held != self.length:
            self._hold(self.positions(self.length))
        for number, value in enumerate(self._values):
            yield f"past_key_values.{number // 2}.{NAMES[number % 2]}", value

    def keep(self, presents: list[Any]) -> None:
        """Take what a run returned: layer by layer, keys before values."""
        self._values = presents
        self._num_held = presents[0].shape()[2]

    def advance(self, count: int) -> None:
        """Count tokens whose keys and values the graph has appended."""
        self.length += count

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on; the next run copies what is left."""
        self.length = min(self.length, length)

    def clear(self) -> None:
        """Forget everything."""
        self._hold(self._empty)
        self.length = 0

    def restore(self, prefix: NDArray[np.generic], length: int) -> None:
        """Hold the first `length` positions of a prefix, and nothing else; as `KVCache.restore`."""
        self.length = length
        self._hold(prefix[:, :, :, :, :length])

    def copy(self, source: ConcatenatedCache, length: int) -> None:
        """Hold the first `length` positions of another cache, and nothing else."""
        self.restore(source.positions(length), length)

    def positions(self, length: int) -> NDArray[np.generic]:
        """Return a copy of the first `length` positions, in the shape that `restore` takes."""
        import numpy as np

        if length == 0:
            return self._empty
        halves = np.stack([value.numpy()[:, :, :length] for value in self._values])
        return halves.reshape(-1, 2, *halves.shape[1:])

    def _hold(self, positions: NDArray[np.generic]) -> None:
        import numpy as np

        self._values = [self._make_value(np.ascontiguousarray(half)) for layer in positions for half in layer]
        self._num_held = positions.shape[4]
