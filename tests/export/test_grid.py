"""What numbers a matrix can hold: rounding to integers and FP8, and the bytes that the operators read."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rubricrm_export.errors import CheckpointUnsupported
from rubricrm_export.quantize.grid import FP8_MAX, Fp8Grid, Grid, IntegerGrid, round_scales, split_blocks, to_fp8
from rubricrm_export.quantize.matrix import QuantizedMatrix, pack_nibbles, unpack_nibbles

Array = NDArray[Any]

INTEGER_GRIDS = [
    IntegerGrid(bits, block_size, symmetric, scale_type)
    for bits in (4, 8)
    for block_size in (32, 64, 128, None)
    for symmetric in (True, False)
    for scale_type in (np.float32, np.float16, ml_dtypes.bfloat16)
]
GRIDS: list[Grid] = [*INTEGER_GRIDS, Fp8Grid(128), Fp8Grid()]


def random_matrix(rows: int, width: int, seed: int, scale: float = 0.1) -> Array:
    """Weights with a few large ones, and a row and a block of zeros."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, width), np.float32) * np.float32(scale)
    matrix[rng.random((rows, width)) < 0.01] *= 20
    matrix[-1] = 0
    matrix[0, :32] = 0
    return matrix


def matrices() -> st.SearchStrategy[Array]:
    return st.builds(
        random_matrix,
        rows=st.integers(1, 5),
        width=st.integers(1, 300),
        seed=st.integers(0, 2**32 - 1),
        # From below the smallest 16-bit scale to beyond what weights are.
        scale=st.sampled_from([1e-9, 1e-7, 3e-7, 1e-6, 1e-3, 0.1, 10.0, 1e4]),
    )


def repeated(matrix: QuantizedMatrix, part: Array) -> Array:
    """A parameter of blocks at each of the weights."""
    return np.repeat(part, matrix.block_size, 1)[:, : matrix.shape[1]]


def squares(rounded: QuantizedMatrix, weight: Array, cost: Array | float = 1.0) -> Array:
    error = rounded.dequantize().astype(np.float64) - weight
    return np.asarray((np.square(error) * cost).sum(1))


# --- bytes


def test_first_of_two_nibbles_is_low() -> None:
    codes = np.array([[1, 2, 3, 4], [15, 0, 0, 15]], np.uint8)
    assert pack_nibbles(codes).tolist() == [[0x21, 0x43], [0x0F, 0xF0]]
    assert pack_nibbles(codes[:, :3]).tolist() == [[0x21, 0x03], [0x0F, 0x00]]


@given(rows=st.integers(1, 4), width=st.integers(1, 33), seed=st.integers(0, 2**32 - 1))
def test_nibbles_are_unpacked_as_they_were(rows: int, width: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 16, (rows, width), np.uint8)
    packed = pack_nibbles(codes)
    assert packed.shape == (rows, (width + 1) // 2)
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(unpack_nibbles(packed, width), codes)


def test_blobs_of_four_bits_with_a_short_last_block() -> None:
    codes = np.array([[1, 2, 3, 4, 5, 6, 7, 8, 9], [15, 14, 13, 12, 11, 10, 9, 8, 7]], np.uint8)
    zero_points = np.array([[1, 2, 3], [13, 14, 15]], np.uint8)
    matrix = QuantizedMatrix(codes, np.ones((2, 3), np.float32), zero_points, 4, 4)
    blobs = matrix.blobs()
    assert blobs.dtype == np.uint8
    assert blobs.shape == (2, 3, 2)
    assert blobs[0].tolist() == [[0x21, 0x43], [0x65, 0x87], [0x09, 0x00]]
    assert blobs[1].tolist() == [[0xEF, 0xCD], [0xAB, 0x89], [0x07, 0x00]]
    packed = matrix.packed_zero_points()
    assert packed is not None
    assert packed.tolist() == [[0x21, 0x03], [0xED, 0x0F]]


def test_blobs_of_eight_bits_with_a_short_last_block() -> None:
    codes = np.array([[1, 2, 3, 4, 255, 0]], np.uint8)
    zero_points = np.array([[128, 7]], np.uint8)
    matrix = QuantizedMatrix(codes, np.ones((1, 2), np.float32), zero_points, 8, 4)
    assert matrix.blobs().tolist() == [[[1, 2, 3, 4], [255, 0, 0, 0]]]
    packed = matrix.packed_zero_points()
    assert packed is not None
    assert packed.tolist() == [[128, 7]]


def test_dequantized_numbers_of_a_case_computed_by_hand() -> None:
    codes = np.array([[0, 8, 15, 3, 4]], np.uint8)
    scales = np.array([[0.5, 2, 10]], np.float32)
    zero_points = np.array([[8, 15, 0]], np.uint8)
    asymmetric = QuantizedMatrix(codes, scales, zero_points, 4, 2)
    assert asymmetric.dequantize().tolist() == [[-4, 0, 0, -24, 40]]
    symmetric = QuantizedMatrix(codes, scales, None, 4, 2)
    assert symmetric.dequantize().tolist() == [[-4, 0, 14, -10, -40]]
    assert symmetric.packed_zero_points() is None
    eight_bits = QuantizedMatrix(codes + np.uint8(120), scales, None, 8, 2)
    assert eight_bits.dequantize().tolist() == [[-4, 0, 14, -10, -40]]
    floats = QuantizedMatrix(np.array([[1.5, -448, 0.0625]], ml_dtypes.float8_e4m3fn), scales[:, :2], None, 8, 2)
    assert floats.dequantize().tolist() == [[0.75, -224, 0.125]]


def test_blocks_are_filled_with_zeros() -> None:
    blocks = split_blocks(np.arange(1, 11, dtype=np.float32).reshape(2, 5), 3)
    assert blocks.tolist() == [[[1, 2, 3], [4, 5, 0]], [[6, 7, 8], [9, 10, 0]]]


def stored_bytes(grid: Grid, matrix: QuantizedMatrix) -> int:
    scale_type = grid.scale_type if isinstance(grid, IntegerGrid) else np.float32
    codes = matrix.codes if isinstance(grid, Fp8Grid) else matrix.blobs()
    zero_points = matrix.packed_zero_points()
    return codes.nbytes + matrix.scales.astype(scale_type).nbytes + (0 if zero_points is None else zero_points.nbytes)


@pytest.mark.parametrize("width", [1, 5, 31, 48, 80, 127, 129, 161, 288, 289])
@pytest.mark.parametrize("rows", [1, 3])
def test_bytes_are_those_that_are_stored(rows: int, width: int) -> None:
    for grid in GRIDS:
        matrix = grid.round(random_matrix(rows, width, seed=width))
        assert matrix.shape == (rows, width)
        assert grid.num_bytes(rows, width) == stored_bytes(grid, matrix), grid


@pytest.mark.parametrize(
    ("grid", "stated"),
    [
        (IntegerGrid(4, 128, symmetric=False), 0.53515625),
        (IntegerGrid(4, 64, symmetric=False), 0.5703125),
        (IntegerGrid(4, 32, symmetric=False), 0.640625),
        (IntegerGrid(4, 128, symmetric=True), 0.53125),
        (IntegerGrid(8, 128, symmetric=True), 1.03125),
        (IntegerGrid(8, 64, symmetric=True), 1.0625),
        (IntegerGrid(8, 32, symmetric=True), 1.125),
        (Fp8Grid(128), 1.03125),
        (Fp8Grid(), 1.001953125),
        (IntegerGrid(4, 128, symmetric=True, scale_type=np.float16), 0.515625),
    ],
)
def test_bytes_of_a_weight(grid: Grid, stated: float) -> None:
    assert grid.num_bytes(64, 2048) / (64 * 2048) == stated


# --- integers


def round_to(grid: Grid, weight: Array, importance: Array | None = None) -> QuantizedMatrix:
    """Round, leaving out examples whose scales the grid's type cannot hold."""
    try:
        return grid.round(weight, importance)
    except CheckpointUnsupported:
        reject()


@pytest.mark.parametrize("scale_type", [np.float16, ml_dtypes.bfloat16])
def test_scales_that_their_type_cannot_hold(scale_type: Any) -> None:
    weight = np.full((1, 32), 7e8, np.float32)
    weight[0, 0] = -7e8
    grid = IntegerGrid(4, 32, symmetric=True, scale_type=scale_type)
    if scale_type is np.float16:
        with pytest.raises(CheckpointUnsupported, match=r"a scale of 1e.08 is beyond what float16 holds"):
            grid.round(weight)
    else:
        assert np.isfinite(grid.round(weight).scales).all()


@settings(max_examples=150)
@given(grid=st.sampled_from(INTEGER_GRIDS), weight=matrices())
def test_weight_that_is_not_clipped_is_at_most_half_a_step_off(grid: IntegerGrid, weight: Array) -> None:
    matrix = round_to(grid, weight)
    last = (1 << grid.bits) - 1
    first = 1 if grid.symmetric and grid.bits == 8 else 0
    assert matrix.codes.dtype == np.uint8
    assert matrix.codes.min() >= first
    assert matrix.codes.max() <= last
    # Zero is a number of every grid.
    assert ((matrix.offsets >= first) & (matrix.offsets <= last)).all()
    assert (matrix.zero_points is None) is grid.symmetric
    assert np.isfinite(matrix.scales).all()
    assert (matrix.scales > 0).all()
    scales, offsets = (repeated(matrix, part).astype(np.float64) for part in (matrix.scales, matrix.offsets))
    wanted = weight / scales + offsets
    is_inside = (wanted >= first - 0.5) & (wanted <= last + 0.5)
    error = np.abs(matrix.dequantize() - weight.astype(np.float64))
    # Quotients are float32: a hair beyond half a step, which grows with the code.
    assert (error <= (0.5 + 1e-4) * scales)[is_inside].all()
    # What was clipped became the end of its block's range.
    assert (matrix.codes[wanted < first - 0.5] == first).all()
    assert (matrix.codes[wanted > last + 0.5] == last).all()


@settings(max_examples=60)
@given(grid=st.sampled_from(GRIDS), weight=matrices())
def test_zeros_stay_zeros_and_rounding_again_changes_nothing_there(grid: Grid, weight: Array) -> None:
    rounded = round_to(grid, weight).dequantize()
    assert np.isfinite(rounded).all()
    assert (rounded[weight == 0] == 0).all()
    # A number never changes its sign.
    assert (rounded * weight >= 0).all()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-41, -1e-38, -0.0])
def test_block_of_next_to_nothing(grid: Grid, value: float) -> None:
    rounded = grid.round(np.full((2, 33), value, np.float32)).dequantize()
    assert np.abs(rounded).max() <= 2 * abs(value)


def test_zero_points_stay_within_four_bits_where_scales_are_coarse() -> None:
    # The scale wanted is 1.49 times the smallest FP16 number, which is stored: -low / scale is 22.
    weight = np.array([[-15 * 1.49 * 2.0**-24] + [0.0] * 63], np.float32)
    matrix = IntegerGrid(4, 32, symmetric=False, scale_type=np.float16).round(weight)
    assert matrix.scales.tolist() == [[2.0**-24, 1]]
    assert matrix.zero_points is not None
    assert matrix.zero_points.tolist() == [[15, 0]]
    packed = matrix.packed_zero_points()
    assert packed is not None
    assert packed.tolist() == [[0x0F]]


@settings(max_examples=60)
@given(block_size=st.sampled_from([32, 128, None]), weight=matrices())
def test_symmetric_int8_has_no_number_without_its_negative(block_size: int | None, weight: Array) -> None:
    grid = IntegerGrid(8, block_size, symmetric=True)
    plus, minus = round_to(grid, weight), round_to(grid, -weight)
    assert min(plus.codes.min(), minus.codes.min()) >= 1
    np.testing.assert_array_equal(plus.codes.astype(int) - 128, 128 - minus.codes.astype(int))
    # The largest weight of a block is the end of its range.
    blocks = split_blocks(np.abs(weight), block_size or weight.shape[1]).max(-1)
    np.testing.assert_allclose(plus.scales[blocks > 0] * 127, blocks[blocks > 0], rtol=1e-6)


@pytest.mark.parametrize("scale_type", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_rounded_on_the_scales_as_stored(bits: int, scale_type: Any) -> None:
    weight = random_matrix(6, 128, seed=3)
    matrix = IntegerGrid(bits, 32, True, scale_type).round(weight)
    np.testing.assert_array_equal(matrix.scales, matrix.scales.astype(scale_type).astype(np.float32))
    scales = repeated(matrix, matrix.scales)
    middle, last = 1 << (bits - 1), (1 << bits) - 1
    expected = np.clip(np.rint(weight / scales) + middle, bits == 8, last)
    np.testing.assert_array_equal(matrix.codes, expected)
    assert (matrix.scales != IntegerGrid(bits, 32, symmetric=True).round(weight).scales).any()


def test_scale_of_zero_becomes_one() -> None:
    scales = np.array([0, 1e-9, 2.0**-24, 0.1], np.float32)
    assert round_scales(scales, np.float16).tolist() == [1, 1, 2.0**-24, float(np.float16(0.1))]
    assert round_scales(scales, np.float32).tolist() == [1, *scales[1:].tolist()]


@settings(max_examples=60)
@given(symmetric=st.booleans(), block_size=st.sampled_from([32, 64, 128]), weight=matrices())
def test_search_of_the_clip_never_loses(symmetric: bool, block_size: int, weight: Array) -> None:
    grid = IntegerGrid(4, block_size, symmetric)
    blocks = split_blocks(weight, block_size)
    scales, zeros = grid.parameters(blocks, None, (1.0,))
    codes = grid.codes(blocks, scales[..., None], zeros[..., None]).reshape(len(weight), -1)[:, : weight.shape[1]]
    whole_range = grid.matrix(codes, scales, zeros)
    assert (squares(round_to(grid, weight), weight) <= squares(whole_range, weight) * (1 + 1e-4)).all()


def test_clipping_pays_beside_one_large_weight() -> None:
    weight = np.random.default_rng(0).uniform(-1, 1, (8, 128)).astype(np.float32)
    weight[:, 0] = 1.3
    grid = IntegerGrid(4, 128, symmetric=True)
    matrix = round_to(grid, weight)
    assert (matrix.scales < 1.3 / 7 * 0.99).any()
    assert grid.clips == (1.0, 0.95, 0.9, 0.85, 0.8)
    assert IntegerGrid(8, 128, symmetric=True).clips == (1.0,)


@settings(max_examples=40)
@given(symmetric=st.booleans(), seed=st.integers(0, 2**32 - 1), width=st.integers(2, 200))
def test_importance_decides_which_errors_are_kept_small(symmetric: bool, seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    weight = random_matrix(5, width, seed)
    importance = np.exp(3 * rng.standard_normal(width)).astype(np.float32)
    grid = IntegerGrid(4, 64, symmetric)
    informed, plain = round_to(grid, weight, importance), round_to(grid, weight)
    assert (squares(informed, weight, importance) <= squares(plain, weight, importance) * (1 + 1e-4)).all()
    assert (squares(plain, weight) <= squares(informed, weight) * (1 + 1e-4)).all()
    constant = round_to(grid, weight, np.full(width, 4, np.float32))
    np.testing.assert_array_equal(constant.codes, plain.codes)


# --- FP8


def test_fp8_never_becomes_nan() -> None:
    values = np.array([448, 449, 464, 465, 480, 1e6, np.finfo(np.float32).max], np.float32)
    both = np.concatenate([values, -values])
    assert np.isnan(np.float32(465).astype(ml_dtypes.float8_e4m3fn))  # what the cast alone gives
    assert to_fp8(both).astype(np.float32).tolist() == [448] * 7 + [-448] * 7


@given(st.lists(st.floats(-448, 448, width=32), min_size=1, max_size=40))
def test_fp8_inside_the_range_is_the_nearest_number(values: list[float]) -> None:
    array = np.array(values, np.float32)
    got = to_fp8(array)
    assert got.dtype == ml_dtypes.float8_e4m3fn
    assert got.tobytes() == array.astype(ml_dtypes.float8_e4m3fn).tobytes()
    numbers = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    nearest = np.abs(numbers[np.isfinite(numbers)] - array.astype(np.float64)[:, None]).min(1)
    np.testing.assert_array_equal(np.abs(got.astype(np.float64) - array), nearest)


@settings(max_examples=80)
@given(block_size=st.sampled_from([128, None]), weight=matrices())
def test_largest_weight_of_an_fp8_block_is_kept(block_size: int | None, weight: Array) -> None:
    matrix = Fp8Grid(block_size).round(weight)
    codes = matrix.codes.astype(np.float32)
    assert matrix.codes.shape == weight.shape
    assert matrix.zero_points is None
    assert np.isfinite(codes).all()
    largest = split_blocks(np.abs(weight), matrix.block_size).max(-1)
    assert matrix.scales.shape == largest.shape
    np.testing.assert_array_equal(split_blocks(np.abs(codes), matrix.block_size).max(-1), np.where(largest, FP8_MAX, 0))
    scales = repeated(matrix, matrix.scales)
    error = np.abs(matrix.dequantize() - weight)
    # Three bits behind the leading one; below 2^-6 steps of 2^-9.
    assert (error <= np.maximum(np.abs(weight) / 16, scales * 2.0**-10) * (1 + 1e-5)).all()


def test_fp8_weights_on_a_case_computed_by_hand() -> None:
    weight = np.array([[448, 1.0625, -3, 0], [0.5, 0.25, -1, 0.1]], np.float32)
    matrix = Fp8Grid().round(weight)
    np.testing.assert_array_equal(matrix.scales, np.array([[1], [1 / 448]], np.float32))
    assert matrix.codes[0].astype(float).tolist() == [448, 1, -3, 0]  # 1.0625 is a tie: to the even 1
    assert matrix.codes[1].astype(float).tolist() == [224, 112, -448, 44]
    assert matrix.codes[0].view(np.uint8).tolist() == [0x7E, 0x38, 0xC4, 0x00]
