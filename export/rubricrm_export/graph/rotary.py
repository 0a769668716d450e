"""Rotary positions (Su et al., arXiv 2104.09864)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rubricrm_export.checkpoint.architecture import Architecture


def rotary_tables(architecture: Architecture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosines and sines [context, head_dim / 2].

    Angles are float32 products, as in the code that these models were trained with.
    """
    exponents = np.arange(0, architecture.head_dim, 2, dtype=np.float32) / np.float32(architecture.head_dim)
    frequencies = (1.0 / np.float32(architecture.rope_theta) ** exponents).astype(np.float32)
    angles = np.outer(np.arange(architecture.context_length, dtype=np.float32), frequencies)
    return np.cos(angles), np.sin(angles)
