"""The recipes: GPTQ against its definition, AWQ, SmoothQuant, the moments they see, and what is kept of a layer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rubricrm_export.calibrate.layer_result import LayerResult
from rubricrm_export.errors import ExportFailed
from rubricrm_export.quantize import awq, gptq, smoothquant
from rubricrm_export.quantize.awq import activation_aware_scale
from rubricrm_export.quantize.gptq import round_with_feedback
from rubricrm_export.quantize.grid import Fp8Grid, Grid, IntegerGrid
from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.moments import Moments
from rubricrm_export.quantize.recipes import RECIPES
from rubricrm_export.quantize.rtn import round_to_nearest
from rubricrm_export.quantize.smoothquant import smoothing_scale
from rubricrm_export.quantize.vocabulary import METHODS

Array = NDArray[Any]

GRIDS = [
    IntegerGrid(4, 32, symmetric=False),
    IntegerGrid(4, 64, symmetric=True),
    IntegerGrid(4, 128, symmetric=False, scale_type=np.float16),
    IntegerGrid(8, 32, symmetric=True),
    IntegerGrid(8, None, symmetric=True),
]


def correlated_inputs(tokens: int, width: int, seed: int, rank: int = 12) -> Array:
    """Inputs of a few directions and some noise, with sizes that differ."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((tokens, rank)) @ rng.standard_normal((rank, width))
    x += 0.3 * rng.standard_normal((tokens, width))
    return np.asarray(x * np.exp(0.5 * rng.standard_normal(width)), np.float32)


def weights(rows: int, width: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, width), np.float32) * np.float32(0.05)


def output_error(rounded: QuantizedMatrix, weight: Array, second: Array) -> Array:
    """E H e^T of each row."""
    error = rounded.dequantize().astype(np.float64) - weight
    return np.asarray(((error @ second.astype(np.float64)) * error).sum(1))


def diagonal(sizes: Array) -> Moments:
    return Moments(np.diag(sizes).astype(np.float32), np.sqrt(sizes), np.sqrt(sizes))


# --- GPTQ


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("width", [48, 64, 150, 256])
def test_feedback_loses_less_than_the_nearest_on_correlated_inputs(grid: IntegerGrid, width: int) -> None:
    weight, moments = weights(24, width, 1), Moments.of(correlated_inputs(400, width, 2))
    nearest = output_error(round_to_nearest(weight, moments, grid), weight, moments.second)
    fed_back = output_error(round_with_feedback(weight, moments, grid), weight, moments.second)
    assert fed_back.sum() < 0.5 * nearest.sum()
    assert (fed_back < nearest).mean() > 0.9


@settings(max_examples=25)
@given(
    grid=st.sampled_from(GRIDS),
    width=st.integers(1, 140),
    tokens=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_feedback_never_loses_much(grid: IntegerGrid, width: int, tokens: int, seed: int) -> None:
    # Damping has its price where a text shows few directions, and a single column has nothing to make up for.
    weight, moments = weights(16, width, seed), Moments.of(correlated_inputs(tokens, width, seed))
    nearest = output_error(round_to_nearest(weight, moments, grid), weight, moments.second).sum()
    matrix = round_with_feedback(weight, moments, grid)
    assert output_error(matrix, weight, moments.second).sum() <= 1.1 * nearest + 1e-12
    assert matrix.shape == weight.shape
    assert np.isfinite(matrix.dequantize()).all()
    assert (matrix.zero_points is None) is grid.symmetric


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_feedback_is_the_nearest_where_inputs_are_not_correlated(grid: IntegerGrid) -> None:
    weight = weights(16, 150, 3)
    moments = diagonal(np.exp(np.random.default_rng(4).standard_normal(150)))
    fed_back, nearest = (method(weight, moments, grid) for method in (round_with_feedback, round_to_nearest))
    for part in ("codes", "scales", "offsets"):
        np.testing.assert_array_equal(getattr(fed_back, part), getattr(nearest, part))


def nearest_plane(weight: Array, second: Array, grid: IntegerGrid) -> tuple[Array, Array, Array]:
    """GPTQ as its docstring defines it: row by row, column by column, in float64, from the last to the first."""
    plain = grid.round(weight, np.diagonal(second))
    scales, zeros = (np.repeat(part, plain.block_size, 1).astype(np.float64) for part in (plain.scales, plain.offsets))
    damped = second.astype(np.float64) + 0.01 * np.diagonal(second).astype(np.float64).mean() * np.eye(len(second))
    factor = np.linalg.cholesky(damped)
    codes, errors = np.zeros(weight.shape), np.zeros(weight.shape)
    last, first = (1 << grid.bits) - 1, int(grid.symmetric and grid.bits == 8)
    for row in range(weight.shape[0]):
        for j in reversed(range(weight.shape[1])):
            carried = sum(errors[row, i] * factor[i, j] for i in range(j + 1, weight.shape[1])) / factor[j, j]
            code = np.rint((weight[row, j] + carried) / scales[row, j]) + zeros[row, j]
            codes[row, j] = min(max(code, first), last)
            errors[row, j] = weight[row, j] - (codes[row, j] - zeros[row, j]) * scales[row, j]
    return codes, errors, factor


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("width", [1, 63, 65, 150])
def test_feedback_against_its_definition(grid: IntegerGrid, width: int) -> None:
    weight, moments = weights(5, width, 5), Moments.of(correlated_inputs(300, width, 6))
    codes, errors, factor = nearest_plane(weight, moments.second, grid)
    matrix = round_with_feedback(weight, moments, grid)
    # A sum in another order may round a tie the other way; the columns before it then follow.
    assert (matrix.codes == codes).all(1).mean() >= 0.8
    # The identity that the algorithm rests on: squares of the planes' distances are the damped error of the outputs.
    damped = factor @ factor.T
    np.testing.assert_allclose(np.square(errors @ factor).sum(), ((errors @ damped) * errors).sum(), rtol=1e-9)


def test_inputs_that_never_occur_are_rounded_to_the_nearest() -> None:
    x = correlated_inputs(300, 96, 7)
    dead = [0, 40, 41, 95]
    x[:, dead] = 0
    weight, moments, grid = weights(8, 96, 8), Moments.of(x), IntegerGrid(4, 32, symmetric=False)
    matrix = round_with_feedback(weight, moments, grid)
    nearest = grid.round(weight, np.diagonal(moments.second))
    np.testing.assert_array_equal(matrix.codes[:, dead], nearest.codes[:, dead])
    # They take part in nothing: without them the others are the same.
    other = weight.copy()
    other[:, dead] = 0
    assert output_error(matrix, weight, moments.second).sum() < output_error(nearest, weight, moments.second).sum()


@pytest.mark.parametrize("value", [0.0, 1e-20])
def test_inputs_of_nothing_are_rounded_to_the_nearest(value: float) -> None:
    moments = Moments.of(np.full((4, 33), value, np.float32))
    weight, grid = weights(3, 33, 9), IntegerGrid(8, 32, symmetric=True)
    np.testing.assert_array_equal(round_with_feedback(weight, moments, grid).codes, grid.round(weight).codes)


@pytest.mark.parametrize("width", [48, 130])
@pytest.mark.parametrize("grid", GRIDS[:2], ids=str)
def test_weights_are_shifted_towards_the_float_models_outputs(grid: IntegerGrid, width: int) -> None:
    exact = correlated_inputs(400, width, 10)
    x = exact + np.float32(0.2) * correlated_inputs(400, width, 11)
    weight, moments = weights(16, width, 12), Moments.of(x, exact)
    assert moments.cross is not None
    damped = moments.second + 0.01 * np.diagonal(moments.second).mean() * np.eye(width)
    # Half of the way to the least squares W' x = W exact, by numpy's general solver in float64.
    whole = np.linalg.solve(damped.astype(np.float64), (weight @ (moments.cross - moments.second)).T).T
    shifted = (weight + gptq.SHIFT * whole).astype(np.float32)
    got = round_with_feedback(weight, moments, grid)
    expected = round_with_feedback(shifted, Moments.of(x), grid)
    np.testing.assert_allclose(got.scales, expected.scales, rtol=1e-4)
    assert (got.codes == expected.codes).mean() > 0.97
    # The function is nearer to the float model's than that of the unshifted weights.
    plain = round_with_feedback(weight, Moments.of(x), grid)
    wanted = exact @ weight.T
    losses = [np.square(x @ matrix.dequantize().T - wanted).sum() for matrix in (got, plain)]
    assert losses[0] < losses[1]


def test_exact_inputs_shift_nothing() -> None:
    x = correlated_inputs(300, 70, 13)
    weight, grid = weights(8, 70, 14), IntegerGrid(4, 32, symmetric=False)
    with_cross, without = (round_with_feedback(weight, Moments.of(x, exact), grid) for exact in (x, None))
    np.testing.assert_array_equal(with_cross.codes, without.codes)


@pytest.mark.parametrize("second", [[[1, 5], [5, 1]], [[np.nan, 0], [0, 1]]], ids=["no x^T x", "not finite"])
def test_moments_without_a_factor_are_an_error(second: list[list[float]]) -> None:
    moments = Moments(np.array(second, np.float32), np.ones(2, np.float32), np.ones(2, np.float32))
    with pytest.raises(ExportFailed, match="gptq: .*no Cholesky factor.*--calibration"):
        round_with_feedback(weights(2, 2, 0), moments, IntegerGrid(4, 32, symmetric=True))


def test_arguments_are_left_as_they_are() -> None:
    exact, x = correlated_inputs(100, 70, 15), correlated_inputs(100, 70, 16)
    for name, recipe in RECIPES.items():
        weight, moments, grid = weights(8, 70, 17), Moments.of(x, exact), IntegerGrid(4, 32, symmetric=False)
        assert moments.cross is not None
        before = [part.copy() for part in (weight, moments.second, moments.cross)]
        recipe.round(weight, moments, grid)
        if recipe.scale is not None:
            recipe.scale([weight], moments, grid)
        for kept, part in zip(before, (weight, moments.second, moments.cross), strict=True):
            np.testing.assert_array_equal(kept, part, err_msg=name)


# --- factors


def scaled_loss(factors: Array, matrices: list[Array], moments: Moments, grid: Grid) -> float:
    """Error of the outputs where columns are multiplied by factors, rounded, and inputs divided by them."""
    total = 0.0
    for matrix in matrices:
        importance = np.asarray(np.diagonal(moments.second) / np.square(factors), np.float32)
        error = (grid.round(matrix * factors, importance).dequantize() / factors).astype(np.float64) - matrix
        total += float(((error @ moments.second) * error).sum())
    return total


@settings(max_examples=20)
@given(
    grid=st.sampled_from([*GRIDS, Fp8Grid()]), width=st.sampled_from([1, 48, 70, 96]), seed=st.integers(0, 2**32 - 1)
)
def test_awq_never_loses_more_than_no_factors(grid: Grid, width: int, seed: int) -> None:
    x = correlated_inputs(100, width, seed)
    x[:, width // 2] *= 50
    x[:, 0] = 0
    matrices, moments = [weights(12, width, seed), weights(5, width, seed + 1)], Moments.of(x)
    factors = activation_aware_scale(matrices, moments, grid)
    assert factors.shape == (width,)
    assert factors.dtype == np.float32
    assert (factors >= 1e-3).all()
    assert (factors <= 1e3).all()
    plain = scaled_loss(np.ones(width, np.float32), matrices, moments, grid)
    assert scaled_loss(factors, matrices, moments, grid) <= plain * (1 + 1e-3) + 1e-12


def test_awq_gives_loud_inputs_finer_steps() -> None:
    x = np.random.default_rng(0).standard_normal((300, 128)).astype(np.float32)
    x[:, :4] *= 40
    matrices, moments, grid = [weights(32, 128, 1)], Moments.of(x), IntegerGrid(4, 128, symmetric=False)
    factors = activation_aware_scale(matrices, moments, grid)
    assert factors[:4].min() > 1.5 * factors[4:].max()
    plain = scaled_loss(np.ones(128, np.float32), matrices, moments, grid)
    assert scaled_loss(factors, matrices, moments, grid) < 0.7 * plain


def test_awq_leaves_inputs_of_one_size_alone() -> None:
    x = np.sign(np.random.default_rng(0).standard_normal((200, 32))).astype(np.float32)
    factors = activation_aware_scale([weights(8, 32, 1)], Moments.of(x), GRIDS[0])
    np.testing.assert_allclose(factors, 1, rtol=1e-5)


def test_awqs_factors_are_a_power_of_the_inputs_sizes() -> None:
    x = np.random.default_rng(0).standard_normal((300, 128)).astype(np.float32)
    x[:, :4] *= 40
    moments, grid = Moments.of(x), IntegerGrid(4, 128, symmetric=False)
    factors = activation_aware_scale([weights(32, 128, 1)], moments, grid)
    slope, _ = np.polyfit(np.log(moments.size), np.log(factors), 1)
    assert min(abs(slope - exponent) for exponent in awq.EXPONENTS) < 1e-3
    np.testing.assert_allclose(factors.max() * factors.min(), 1, rtol=1e-5)


def test_smoothquants_factors_of_a_case_computed_by_hand() -> None:
    matrices = [np.array([[1, -0.25, 0], [0.5, 0.1, 0]], np.float32), np.array([[-4, 0.2, 0]], np.float32)]
    largest = np.array([64, 1, 9], np.float32)
    moments = Moments(np.eye(3, dtype=np.float32), largest, largest)
    # sqrt(64 / 4), sqrt(1 / 0.25), and weights of nothing count as 1e-5: sqrt(9 / 1e-5).
    factors = smoothing_scale(matrices, moments, IntegerGrid(8, None, symmetric=True))
    assert smoothquant.STRENGTH == 0.5
    np.testing.assert_allclose(factors, [4, 2, 3 / np.sqrt(1e-5)], rtol=1e-6)
    assert factors.dtype == np.float32


def test_smoothquants_factors_stay_within_what_norms_hold() -> None:
    largest = np.array([0, 1e9], np.float32)
    moments = Moments(np.eye(2, dtype=np.float32), largest, largest)
    factors = smoothing_scale([np.array([[1e3, 1e-3]], np.float32)], moments, IntegerGrid(8, None, symmetric=True))
    np.testing.assert_allclose(factors, [1e-3, 1e3])


def test_smoothing_evens_inputs_and_weights_out() -> None:
    x, weight = correlated_inputs(200, 48, 20), weights(16, 48, 21)
    x[:, 5] *= 100
    moments = Moments.of(x)
    factors = smoothing_scale([weight], moments, IntegerGrid(8, None, symmetric=True))
    # At a strength of a half inputs and weights of a channel end equally large.
    np.testing.assert_allclose(np.abs(x / factors).max(0), np.abs(weight * factors).max(0), rtol=1e-5)


# --- moments


def test_moments_of_a_case_computed_by_hand() -> None:
    moments = Moments.of(np.array([[1, -2], [3, 0]], np.float32))
    assert moments.second.tolist() == [[5, -1], [-1, 2]]
    assert moments.largest.tolist() == [3, 2]
    assert moments.size.tolist() == [2, 1]
    assert moments.cross is None
    crossed = Moments.of(np.array([[1, -2], [3, 0]], np.float32), np.array([[1, 1], [0, 2]], np.float32))
    assert crossed.cross is not None
    assert crossed.cross.tolist() == [[0.5, -1], [3.5, -1]]
    assert crossed.second.tolist() == moments.second.tolist()


@settings(max_examples=30)
@given(tokens=st.integers(1, 40), width=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_moments_give_the_error_of_outputs(tokens: int, width: int, seed: int) -> None:
    x, error = correlated_inputs(tokens, width, seed, rank=2), weights(3, width, seed)
    moments = Moments.of(x)
    plain = np.square(x.astype(np.float64) @ error.T).sum() / tokens
    np.testing.assert_allclose(((error @ moments.second) * error).sum(), plain, rtol=1e-3, atol=1e-9)


# --- every recipe


def test_every_method_has_a_recipe() -> None:
    assert tuple(RECIPES) == METHODS
    assert [name for name, recipe in RECIPES.items() if recipe.scale is not None] == ["awq", "smoothquant"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_recipe_keeps_the_function(name: str, grid: IntegerGrid) -> None:
    x, weight = correlated_inputs(200, 70, 30), weights(12, 70, 31)
    recipe, factors = RECIPES[name], np.ones(70, np.float32)
    if recipe.scale is not None:
        factors = recipe.scale([weight], Moments.of(x), grid)
    matrix = recipe.round(weight * factors, Moments.of(np.asarray(x / factors, np.float32)), grid)
    assert isinstance(matrix, QuantizedMatrix)
    wanted = x @ weight.T
    error = np.linalg.norm((x / factors) @ matrix.dequantize().T - wanted) / np.linalg.norm(wanted)
    assert error < (0.15 if grid.bits == 4 else 0.015)


# --- what is kept of a layer


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("width", [1, 33, 48, 81])
def test_layer_is_loaded_as_it_was_saved(tmp_path: Path, grid: IntegerGrid, width: int) -> None:
    rng = np.random.default_rng(width)
    saved = LayerResult(
        {"mlp.up_proj.weight": grid.round(weights(5, width, 1)), "mlp.down_proj.weight": grid.round(weights(3, 7, 2))},
        {"input_layernorm.weight": rng.standard_normal(width).astype(np.float32)},
        {"mlp.up_proj.weight": 3.25, "mlp.down_proj.weight": 0.5},
        rng.random((2, 8), np.float32),
        rng.random((2, 8), np.float32).T.copy().T,  # not contiguous
    )
    saved.save(tmp_path / "layer")
    assert [file.name for file in tmp_path.iterdir()] == ["layer"]
    loaded = LayerResult.load(tmp_path / "layer")
    assert loaded.matrices.keys() == saved.matrices.keys()
    for name, matrix in saved.matrices.items():
        other = loaded.matrices[name]
        assert (other.bits, other.block_size, other.shape) == (matrix.bits, matrix.block_size, matrix.shape)
        assert other.blobs().tobytes() == matrix.blobs().tobytes()
        np.testing.assert_array_equal(other.dequantize(), matrix.dequantize())
        assert (other.zero_points is None) is (matrix.zero_points is None)
    assert loaded.norms.keys() == saved.norms.keys()
    np.testing.assert_array_equal(loaded.norms["input_layernorm.weight"], saved.norms["input_layernorm.weight"])
    assert loaded.largest_inputs == saved.largest_inputs
    np.testing.assert_array_equal(loaded.largest_keys, saved.largest_keys)
    np.testing.assert_array_equal(loaded.largest_values, saved.largest_values)


def test_layer_without_matrices_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    LayerResult({}, {}, {}, np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32)).save(tmp_path / "layer")
    loaded = LayerResult.load(tmp_path / "layer")
    assert (dict(loaded.matrices), dict(loaded.norms), dict(loaded.largest_inputs)) == ({}, {}, {})
    assert loaded.largest_keys.tolist() == [[1, 1]]


def test_four_bit_codes_take_half_a_byte(tmp_path: Path) -> None:
    nothing = np.zeros((1, 1), np.float32)
    for bits in (4, 8):
        matrix = IntegerGrid(bits, 128, symmetric=True).round(weights(100, 512, 0))
        LayerResult({"w": matrix}, {}, {}, nothing, nothing).save(tmp_path / str(bits))
    small, large = ((tmp_path / str(bits)).stat().st_size for bits in (4, 8))
    assert large - small == 100 * 512 // 2


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "no header"])
def test_damaged_layer_is_an_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "layer"
    nothing = np.zeros((1, 1), np.float32)
    LayerResult({"w": GRIDS[0].round(weights(4, 40, 0))}, {}, {}, nothing, nothing).save(path)
    contents = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": contents[:-5], "no header": b"\xff" * 64}[damage])
    with pytest.raises(ExportFailed, match="layer: cannot be read .*--force"):
        LayerResult.load(path)
