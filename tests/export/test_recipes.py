"""The recipes: what each of them promises, against plain implementations."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rubricrm.errors import ExportFailed
from rubricrm_export.quantize import gptq
from rubricrm_export.quantize.awq import activation_aware_scale
from rubricrm_export.quantize.gptq import round_with_feedback
from rubricrm_export.quantize.grid import IntegerGrid
from rubricrm_export.quantize.layer_result import LayerResult
from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.moments import Moments
from rubricrm_export.quantize.recipes import RECIPES
from rubricrm_export.quantize.rtn import round_to_nearest
from rubricrm_export.quantize.scheme import METHODS
from rubricrm_export.quantize.smoothquant import smoothing_scale

Float = NDArray[np.float32]
GRID = IntegerGrid(4, 32, symmetric=False)


def random(rows: int, width: int, seed: int = 0) -> Float:
    return np.random.default_rng(seed).standard_normal((rows, width), np.float32)


def correlated(tokens: int, width: int, seed: int = 1) -> Float:
    """Inputs that share a few directions, as activations do."""
    return random(tokens, 8, seed) @ random(8, width, seed + 1) + 0.3 * random(tokens, width, seed + 2)


def output_loss(matrix: QuantizedMatrix, weight: Float, second: Float) -> float:
    error = (matrix.dequantize() - weight).astype(np.float64)
    return float(np.trace(error @ second @ error.T))


def test_there_is_a_recipe_for_each_method() -> None:
    assert tuple(RECIPES) == METHODS


def test_moments() -> None:
    x, exact = np.array([[1, -2], [3, 0]], np.float32), np.array([[2, 2], [0, 4]], np.float32)
    moments = Moments.of(x, exact)
    assert moments.second.tolist() == [[5, -1], [-1, 2]]
    assert moments.largest.tolist() == [3, 2]
    assert moments.size.tolist() == [2, 1]
    assert moments.cross is not None
    assert moments.cross.tolist() == [[1, -2], [7, -2]]
    assert Moments.of(x).cross is None


# --- GPTQ


def plain_nearest_plane(weight: Float, second: Float, grid: IntegerGrid) -> Float:
    """The paper's algorithm on the reversed columns, one column and one row of the inverse at a time."""
    damped = second.astype(np.float64) + gptq.DAMPING * np.eye(len(second)) * np.mean(np.diagonal(second))
    size = grid.width(weight.shape[1])
    blocks = weight.reshape(len(weight), -1, size)
    scales, zeros = grid.parameters(blocks, np.diagonal(second).reshape(1, -1, size), grid.clips)
    remaining, left = weight.astype(np.float64), list(range(weight.shape[1]))
    result = np.zeros_like(weight)
    while left:
        column = left[-1]
        inverse = np.linalg.inv(damped[np.ix_(left, left)])
        scale, zero = scales[:, column // size], zeros[:, column // size]
        codes = grid.codes(remaining[:, column].astype(np.float32), scale, zero)
        result[:, column] = (codes - zero) * scale
        error = (remaining[:, column] - result[:, column]) / inverse[-1, -1]
        remaining[:, left] -= error[:, None] * inverse[-1]
        left.pop()
    return result


def test_gptq_is_the_papers_algorithm() -> None:
    weight, x = random(16, 96), correlated(400, 96)
    moments = Moments.of(x)
    got = round_with_feedback(weight, moments, GRID).dequantize()
    expected = plain_nearest_plane(weight, moments.second, GRID)
    # A weight half way between two numbers may fall to either side.
    assert (np.abs(got - expected) > 1e-5).mean() < 0.01


@pytest.mark.parametrize("width", [32, 96, 100, 130])
@pytest.mark.parametrize("bits", [4, 8])
def test_gptq_loses_less_in_the_outputs(width: int, bits: int) -> None:
    grid = IntegerGrid(bits, 32, symmetric=bits == 8)
    weight, moments = random(40, width), Moments.of(correlated(600, width))
    nearest = output_loss(round_to_nearest(weight, moments, grid), weight, moments.second)
    assert output_loss(round_with_feedback(weight, moments, grid), weight, moments.second) < 0.6 * nearest


def test_gptq_of_inputs_without_correlation_is_rounding() -> None:
    weight = random(16, 64)
    moments = Moments(np.diag(np.arange(1, 65).astype(np.float32)), np.ones(64, np.float32), np.ones(64, np.float32))
    got, nearest = (recipe(weight, moments, GRID) for recipe in (round_with_feedback, round_to_nearest))
    assert np.array_equal(got.codes, nearest.codes)


def test_gptq_with_inputs_that_never_occur() -> None:
    x = correlated(300, 64)
    x[:, [3, 40]] = 0
    matrix = round_with_feedback(random(8, 64), Moments.of(x), GRID)
    assert np.isfinite(matrix.dequantize()).all()
    zeros = round_with_feedback(random(8, 64), Moments.of(np.zeros_like(x)), GRID)
    assert np.isfinite(zeros.dequantize()).all()


def test_gptq_moves_weights_to_undo_earlier_errors() -> None:
    weight, exact = random(24, 96), correlated(800, 96)
    x = exact + 0.2 * random(800, 96, 7)
    moments, plain = Moments.of(x, exact), Moments.of(x)
    damped = plain.second + gptq.DAMPING * np.eye(96) * np.mean(np.diagonal(plain.second))
    assert moments.cross is not None
    wanted = weight + gptq.SHIFT * weight @ (moments.cross - plain.second) @ np.linalg.inv(damped)
    factor = np.linalg.cholesky(damped).astype(np.float32)
    got = gptq._shifted(weight, moments.cross - plain.second, factor)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-3)

    def loss(matrix: QuantizedMatrix) -> float:
        return float(np.square(x @ matrix.dequantize().T - exact @ weight.T).mean())

    assert loss(round_with_feedback(weight, moments, GRID)) < loss(round_with_feedback(weight, plain, GRID))


@pytest.mark.parametrize("second", [np.full((32, 32), np.nan, np.float32), -np.eye(32, dtype=np.float32)])
def test_gptq_without_a_factor(second: Float) -> None:
    moments = Moments(second, np.ones(32, np.float32), np.ones(32, np.float32))
    with pytest.raises(ExportFailed, match="gptq: .* no Cholesky factor .*another --calibration text"):
        round_with_feedback(random(4, 32), moments, GRID)


# --- AWQ and SmoothQuant


def test_awq_scales_up_what_matters() -> None:
    x = random(500, 64)
    x[:, :4] *= 20
    weight, moments = random(32, 64), Moments.of(x)
    factors = activation_aware_scale([weight], moments, GRID)
    assert (factors > 0).all()
    assert factors[:4].min() > factors[4:].max()

    def loss(scale: Float) -> float:
        rounded = GRID.round(weight * scale, np.diagonal(moments.second) / scale**2).dequantize() / scale
        return float(np.square(x @ (rounded - weight).T).mean())

    assert loss(factors) < loss(np.ones_like(factors))


def test_awq_leaves_alone_what_is_even() -> None:
    x = np.sign(random(200, 32))
    np.testing.assert_allclose(activation_aware_scale([random(8, 32)], Moments.of(x), GRID), 1, rtol=1e-5)


def test_smoothquant_is_the_papers_formula() -> None:
    matrices = [np.array([[1, -4], [2, 0.25]], np.float32), np.array([[-0.5, 1]], np.float32)]
    moments = Moments.of(np.array([[8, 1], [-32, 0.5]], np.float32))
    expected = [32**0.5 / 2**0.5, 1 / 4**0.5]
    np.testing.assert_allclose(smoothing_scale(matrices, moments, GRID), expected, rtol=1e-6)


# --- results


@pytest.mark.parametrize("width", [31, 64])
def test_layer_results_are_kept_whole(tmp_path: Path, width: int) -> None:
    matrices = {
        "mlp.up_proj.weight": IntegerGrid(4, 16, symmetric=False).round(random(5, width)),
        "mlp.down_proj.weight": IntegerGrid(8, 32, symmetric=True).round(random(3, width)),
    }
    norm, keys = random(1, 9)[0], random(2, 16)
    result = LayerResult(matrices, {"input_layernorm.weight": norm}, {"mlp.up_proj.weight": 1.5}, keys, -keys)
    result.save(tmp_path / "layer")
    loaded = LayerResult.load(tmp_path / "layer")
    assert loaded.largest_inputs == result.largest_inputs
    assert np.array_equal(loaded.norms["input_layernorm.weight"], norm)
    assert np.array_equal(loaded.largest_keys, keys)
    assert np.array_equal(loaded.largest_values, -keys)
    for name, matrix in matrices.items():
        kept = loaded.matrices[name]
        assert (kept.bits, kept.block_size, kept.shape) == (matrix.bits, matrix.block_size, matrix.shape)
        assert np.array_equal(kept.dequantize(), matrix.dequantize())
    assert [path.name for path in tmp_path.iterdir()] == ["layer"]
