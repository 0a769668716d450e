"""SmoothQuant (Xiao et al., 2211.10438): loud input channels are divided by a factor that their weights take over.

INT8 activations share one scale per token: a channel a hundred times larger than the others leaves these a few steps.
`factor = largest |x| ** strength / largest |w| ** (1 - strength)`, folded away as in `awq.py`. Then weights are rounded
to nearest, one scale per output channel. A weight takes one byte, and the scales 4 / in_features more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rubricrm_export.quantize.grid import Grid
from rubricrm_export.quantize.moments import Moments

Float = NDArray[np.float32]

STRENGTH = 0.5


def smoothing_scale(matrices: Sequence[Float], moments: Moments, grid: Grid) -> Float:  # noqa: ARG001
    """Return the factors [in_features] of matrices that share their inputs."""
    weights = np.max([np.abs(matrix).max(0) for matrix in matrices], 0)
    factors = np.maximum(moments.largest, 1e-5) ** STRENGTH / np.maximum(weights, 1e-5) ** (1 - STRENGTH)
    clipped: Float = np.clip(factors, 1e-3, 1e3).astype(np.float32)
    return clipped
