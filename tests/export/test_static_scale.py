"""Static scales of integer activations: never worse than the largest one, in mean square."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rubricrm_export.quantize.static_scale import clipped_largest

Float = NDArray[np.float32]


def loss(x: Float, largest: float) -> float:
    scale = largest / 127
    return float(np.square(np.clip(np.rint(x / scale), -127, 127) * scale - x).mean())


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 8), st.floats(1e-6, 1e6))
@settings(max_examples=60)
def test_it_loses_no_more_than_the_largest_input_does(seed: int, weight_of_tails: float, size: float) -> None:
    rng = np.random.default_rng(seed)
    x = (size * rng.standard_t(1 + weight_of_tails, (60, 40))).astype(np.float32)
    largest = float(np.abs(x).max())
    chosen = clipped_largest(x, 127)
    assert 0.05 * largest < chosen <= largest
    assert loss(x, chosen) <= loss(x, largest) * (1 + 1e-3)


def test_even_inputs_are_not_clipped() -> None:
    x = np.random.default_rng(0).uniform(-3, 3, (100, 50)).astype(np.float32)
    assert clipped_largest(x, 127) == pytest.approx(float(np.abs(x).max()))


def test_one_loud_input_among_many_is_clipped() -> None:
    x = np.random.default_rng(0).standard_normal((1000, 200)).astype(np.float32)
    x[5, 7] = 100
    assert clipped_largest(x, 127) < 80


def test_inputs_that_are_all_zero() -> None:
    assert clipped_largest(np.zeros((4, 3), np.float32), 127) == 0
