"""Rotary positions (Su et al., arXiv 2104.09864)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rubricrm_export.checkpoint.architecture import Architecture


def rotary_tables(architecture: Architecture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosines and sines [context, head_dim / 2].

    Angles are float32 products, as in the code that these models were trained with. Powers, cosines and sines are
    computed in float64 and rounded: numpy's in float32 differ by processor. Where those of float64 do so too, in their
    last bits, rounding hides it almost always.
    """
    exponents = np.arange(0, architecture.head_dim, 2, dtype=np.float32) / np.float32(architecture.head_dim)
    powers = np.power(np.float64(np.float32(architecture.rope_theta)), exponents, dtype=np.float64).astype(np.float32)
    angles = np.outer(np.arange(architecture.context_length, dtype=np.float32), 1 / powers)
    exact = angles.astype(np.float64)
    return np.cos(exact).astype(np.float32), np.sin(exact).astype(np.float32)
