"""One pass over the rows of a quantized matrix, that gives all of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rubricrm_export.quantize.matrix import QuantizedMatrix

Array = NDArray[Any]
Blocks = Callable[[], Iterator[QuantizedMatrix]]


class MatrixPass:
    """Codes, scales and zero points of a matrix whose rows are made once, block by block.

    The pass runs when the codes are asked for; scales and zero points, a few percent of them, wait in memory until they
    are. What is asked for before the codes makes a pass of its own.
    """

    def __init__(self, blocks: Blocks) -> None:
        """Make nothing yet.

        Args:
            blocks: Gives the matrix as consecutive blocks of rows, again at each call.
        """
        self._blocks = blocks
        self._collected: dict[str, list[Array]] = {}

    def codes(self, pack: Callable[[QuantizedMatrix], Array]) -> Iterator[Array]:
        """Yield what `pack` makes of each block of rows."""
        collected: dict[str, list[Array]] = {"scales": [], "zero_points": []}
        for matrix in self._blocks():
            collected["scales"].append(matrix.scales)
            packed = matrix.packed_zero_points()
            collected["zero_points"] += [] if packed is None else [packed]
            yield pack(matrix)
        self._collected = collected

    def scales(self) -> Array:
        """Return the scales [out_features, blocks]; once for each pass."""
        return self._take("scales")

    def zero_points(self) -> Array:
        """Return the packed zero points; once for each pass."""
        return self._take("zero_points")

    def _take(self, kind: str) -> Array:
        if kind not in self._collected:
            for _ in self.codes(lambda matrix: matrix.codes):
                pass
        return np.concatenate(self._collected.pop(kind))
