"""Round to nearest: each weight becomes the nearest number of the grid, whatever the inputs are.

For 4 bits the range of each block is the one, of a few, that loses least in the squares of the weights. Nothing is
calibrated, so that weights are rounded while they stream from file to file. Norms, and what `Scheme.head` leaves, are
not quantized: norms are a thousandth of a percent of the weights, and multiply every one of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rubricrm_export.quantize.grid import Grid
from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.moments import Moments


def round_to_nearest(weight: NDArray[np.float32], moments: Moments, grid: Grid) -> QuantizedMatrix:
    """Round a matrix [out_features, in_features], the squares of its errors weighted by those of its inputs."""
    return grid.round(weight, np.diagonal(moments.second))
