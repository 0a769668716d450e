"""AWQ: input channels that matter are given finer steps by scaling them up before rounding (Lin et al., 2306.00978).

A channel's factor is `size ** exponent`, with the mean size of its inputs and the exponent, of `EXPONENTS`, that gives
the smallest error of the outputs. Factors are folded away: into the norm before q, k, v and before gate, up; into the
rows of v before o, and of up before down. The weights are then rounded to nearest, with the inputs' squares as weights
of the errors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rubricrm_export.quantize.grid import Grid
from rubricrm_export.quantize.moments import Moments

Float = NDArray[np.float32]

EXPONENTS = tuple(step / 20 for step in range(0, 20, 2))


def activation_aware_scale(matrices: Sequence[Float], moments: Moments, grid: Grid) -> Float:
    """Return the factors [in_features] of matrices that share their inputs."""
    best, least = np.ones_like(moments.size), np.inf
    for exponent in EXPONENTS:
        factors = _normalized(np.maximum(moments.size, 1e-8) ** np.float32(exponent))
        loss = sum(_loss(matrix, factors, moments, grid) for matrix in matrices)
        if loss < least:
            best, least = factors, loss
    return best


def _normalized(factors: Float) -> Float:
    """Return factors whose largest and smallest are as far from 1, within what a 16-bit norm can hold."""
    balanced = factors / np.sqrt(factors.max() * factors.min())
    clipped: Float = np.clip(balanced, 1e-3, 1e3)
    return clipped


def _loss(matrix: Float, factors: Float, moments: Moments, grid: Grid) -> float:
    inverse: Float = np.reciprocal(factors)
    rounded = grid.round(matrix * factors, np.diagonal(moments.second) * np.square(inverse)).dequantize()
    error = rounded * inverse - matrix
    return float(np.vdot(error @ moments.second, error))
