"""The contract of the recipes: how weights are prepared for a grid, and how they are rounded to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rubricrm_export.quantize.grid import Grid
from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.moments import Moments

Float = NDArray[np.float32]

# Weights [out_features, in_features], the moments of their inputs in the quantized model, and the grid.
Round = Callable[[Float, Moments, Grid], QuantizedMatrix]
# Matrices that multiply the same inputs, the moments of these in the float model, and the grid. Returns factors
# [in_features], all positive: the matrices' columns are multiplied by them, and the inputs divided.
Scale = Callable[[Sequence[Float], Moments, Grid], Float]


@dataclass(frozen=True)
class Recipe:
    """A method of quantization, applied to one layer after the other.

    Attributes:
        round: Rounds one matrix.
        scale: Chooses factors that move difficulty from inputs to weights or back, without changing the function: they
            are folded into the norm, or the rows of the matrix, that the inputs come from. None: nothing is moved.
    """

    round: Round
    scale: Scale | None = None
