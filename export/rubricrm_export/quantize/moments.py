"""What calibration keeps of the inputs of a matrix: sums over tokens, not the tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Moments:
    """Statistics of inputs x [tokens, in_features].

    Attributes:
        second: [in_features, in_features], mean of x^T x. The squared error that a change E of a weight makes in its
            output is E second E^T, a token on average.
        largest: [in_features], the largest |x|.
        size: [in_features], the mean of |x|.
        cross: [in_features, in_features], mean of exact^T x, where exact are the inputs in the float model; None: they
            are not known, or are x.
    """

    second: Float
    largest: Float
    size: Float
    cross: Float | None = None

    @classmethod
    def of(cls, x: Float, exact: Float | None = None) -> Moments:
        """Sum up inputs [tokens, in_features]. Costs tokens * in_features^2 multiplications, twice with `exact`."""
        sizes, count = np.abs(x), np.float32(len(x))
        cross = None if exact is None else exact.T @ x / count
        return cls(x.T @ x / count, sizes.max(0), sizes.mean(0), cross)
