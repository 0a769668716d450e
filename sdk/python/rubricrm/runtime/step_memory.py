"""Memory on a device that the steps of one arena read and write, at addresses that stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rubricrm.runtime.array_address import address
from rubricrm.runtime.step_inputs import METADATA

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rubricrm.runtime.step_inputs import AnyIntegers

Shape = tuple[int, int]


class StepMemory:
    """Inputs of steps, which lie in one piece so that one copy brings them all, and logits.

    Attributes:
        uses: How many steps there were of each shape that can be captured.
        graphs: The run options of the shapes that were, which name their CUDA graphs.
    """

    def __init__(
        self, staging: NDArray[np.uint8], rows: int, vocab_size: int, allocate: Callable[[tuple[int, ...]], Any]
    ) -> None:
        """Allocate.

        Args:
            staging: Where a step's inputs lie in the host's memory, but for the metadata, which stay there.
            rows: Rows of logits that steps commonly compute; memory for more is allocated for the steps that do.
            vocab_size: Of the model.
            allocate: Returns a value of bytes of a shape, on the device.
        """
        self.uses: Counter[Shape] = Counter()
        self.graphs: dict[Shape, Any] = {}
        self._staging = staging
        self._inputs = allocate(staging.shape)
        self._rows = rows
        self._row_bytes = 4 * vocab_size
        self._allocate = allocate
        self._logits = allocate((rows * self._row_bytes,))
        self._more_logits: Any = None

    def copy_inputs(self, inputs: Mapping[str, AnyIntegers]) -> dict[str, int]:
        """Copy a step's inputs to the device, and return where each one lies there."""
        self._inputs.update_inplace(self._staging)  # returns when they are there
        offset = self._inputs.data_ptr() - address(self._staging)
        return {name: address(array) + offset for name, array in inputs.items() if name != METADATA}

    def logits_address(self, rows: int) -> int:
        """Return where to write so many rows of logits."""
        if rows <= self._rows:
            return int(self._logits.data_ptr())
        size = rows * self._row_bytes
        if self._more_logits is None or self._more_logits.tensor_size_in_bytes() < size:
            self._more_logits = self._allocate((size,))
        return int(self._more_logits.data_ptr())
