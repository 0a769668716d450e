"""The tensors that readers multiply with: matrices as floats, FP8, INT8 or INT4, with their scales.

Every matrix is made row block by row block while it is written. Layouts are portable: what a GPU's kernels want
interleaved is interleaved by the reader, when it loads or builds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.graph.streamed_tensor import StreamedTensor
from rubricrm_export.quantize.grid import FP8_MAX, IntegerGrid, TensorFp8Grid
from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.matrix_pass import MatrixPass
from rubricrm_export.quantize.rounding import read_rows, rounded_blocks
from rubricrm_export.tensorrt.float_type import FloatType
from rubricrm_export.tensorrt.stored_form import FLOATS, FLOATS_TO_ROUND, FP8, W4A16, W8A8, W8A16, StoredForm
from rubricrm_export.tensorrt.support import GROUP_SIZE
from rubricrm_export.tensorrt.weight_file import WeightTensor, small_tensor

Array = NDArray[Any]


@dataclass(frozen=True)
class Linear:
    """A product of a reader's graph: one matrix of the checkpoint, or several below each other.

    Attributes:
        prefix: What its tensors' names begin with.
        sources: The matrices' names in the checkpoint.
        group: The matrices that share the scale of an FP8 weight with these: a reader that joins them into one product
            needs one scale, and would round them a second time to get it.
        shape: Out and in features.
    """

    prefix: str
    sources: tuple[str, ...]
    group: tuple[str, ...]
    shape: tuple[int, int]


@dataclass(frozen=True)
class ScaleNames:
    """What a reader calls the tensors beside a weight, and the shape that it gives to a single number."""

    weight: str
    input: str
    before: str
    scalar: tuple[int, ...]


class LayerWeights(Protocol):
    """Where matrices come from: rounded while they are read, or as calibration left them."""

    def rounded(self, name: str) -> Iterator[QuantizedMatrix]:
        """Yield a matrix as consecutive blocks of rows."""
        ...

    def largest_input(self, name: str) -> float | None:
        """Return the largest |x| that meets a matrix; None: it was not measured."""
        ...


class Storage(Protocol):
    """A way to store matrices."""

    def tensors(self, linear: Linear) -> list[WeightTensor]:
        """Return the tensors of a product, in the order in which they are to be written."""
        ...


@dataclass(frozen=True)
class StorageSource:
    """What matrices are made from, and how the reader wants them.

    Attributes:
        checkpoint: What is stored as it is.
        weights: The matrices, rounded.
        names: What the tensors beside a weight are called.
        float_type: Of what is not quantized.
        factors_before: Ends of the prefixes of those products for which the reader insists on factors of the inputs
            beside INT4 weights. They are ones: calibration folds its own into the norm or the matrix before.
        threads: For rounding.
    """

    checkpoint: Checkpoint
    weights: LayerWeights
    names: ScaleNames
    float_type: FloatType
    factors_before: tuple[str, ...]
    threads: int


class FloatMatrices:
    """Matrices as 16-bit floats."""

    def __init__(self, checkpoint: Checkpoint, float_type: FloatType) -> None:
        self._checkpoint = checkpoint
        self._type = float_type

    def tensors(self, linear: Linear) -> list[WeightTensor]:
        """Return the weight alone."""

        def parts() -> Iterator[Array]:
            for name in linear.sources:
                yield from StreamedTensor(self._checkpoint.tensor(name), self._type.ir).parts()

        return [WeightTensor(f"{linear.prefix}.weight", self._type.stored, linear.shape, parts)]


class Fp8Matrices:
    """E4M3 with one scale per matrix for the weight and one for its inputs, each the largest number / 448."""

    def __init__(self, source: StorageSource) -> None:
        self._source = source
        self._scale = cache(self._group_scale)

    def tensors(self, linear: Linear) -> list[WeightTensor]:
        """Return the weight, its scale, and the scale of the inputs where these were measured."""
        shape = self._source.names.scalar

        def parts() -> Iterator[Array]:
            grid = TensorFp8Grid(self._scale(linear.group))
            for name in linear.sources:
                for block in rounded_blocks(self._source.checkpoint.tensor(name), grid, self._source.threads):
                    yield block.codes

        def scale() -> Iterator[Array]:
            yield np.full(shape, self._scale(linear.group), np.float32)

        return [
            WeightTensor(f"{linear.prefix}.weight", "F8_E4M3", linear.shape, parts),
            WeightTensor(f"{linear.prefix}.{self._source.names.weight}", "F32", shape, scale),
            *input_scale(linear, self._source.weights, self._source.names, FP8_MAX),
        ]

    def _group_scale(self, group: tuple[str, ...]) -> float:
        largest = max(largest_weight(self._source.checkpoint, name) for name in group)
        return float(np.float32(largest) / np.float32(FP8_MAX)) or 1.0


class IntegerMatrices:
    """INT8 with one scale per output, or INT4 with a scale per group of inputs; both without zero points."""

    def __init__(self, source: StorageSource, grid: IntegerGrid, form: StoredForm) -> None:
        self._source = source
        self._grid = grid
        self._form = form

    def tensors(self, linear: Linear) -> list[WeightTensor]:
        """Return the weight, its scales, and what the reader wants to know of the inputs."""

        def blocks() -> Iterator[QuantizedMatrix]:
            for name in linear.sources:
                yield from self._source.weights.rounded(name)

        matrix = MatrixPass(blocks)
        rows, width = linear.shape
        name, is_int8 = f"{linear.prefix}.weight", self._form.dtype == "I8"
        weight = (
            WeightTensor(name, "I8", linear.shape, lambda: matrix.codes(signed_codes))
            if is_int8
            else WeightTensor(name, "U8", (rows // 2, width), lambda: packed_rows(matrix.codes(signed_nibbles)))
        )
        scale_shape = (rows,) if is_int8 else (rows, width // self._grid.width(width))

        def scales() -> Iterator[Array]:
            yield matrix.scales()

        tensors = [weight, WeightTensor(f"{linear.prefix}.{self._source.names.weight}", "F32", scale_shape, scales)]
        if self._form.activations == "int8":
            tensors += input_scale(linear, self._source.weights, self._source.names, 127.0)
        if self._form is W4A16 and linear.prefix.endswith(self._source.factors_before):
            name = f"{linear.prefix}.{self._source.names.before}"
            tensors.append(self._source.float_type.tensor(name, np.ones(width, np.float32)))
        return tensors


def _floats(source: StorageSource) -> Storage:
    return FloatMatrices(source.checkpoint, source.float_type)


def _int8(form: StoredForm) -> Callable[[StorageSource], Storage]:
    return lambda source: IntegerMatrices(source, IntegerGrid(8, None, True), form)


def _int4(source: StorageSource) -> Storage:
    return IntegerMatrices(source, IntegerGrid(4, GROUP_SIZE, True), W4A16)


# How the matrices of each form are made.
STORAGES: Mapping[StoredForm, Callable[[StorageSource], Storage]] = {
    FLOATS: _floats,
    FLOATS_TO_ROUND: _floats,
    FP8: Fp8Matrices,
    W8A16: _int8(W8A16),
    W8A8: _int8(W8A8),
    W4A16: _int4,
}


def input_scale(linear: Linear, weights: LayerWeights, names: ScaleNames, most: float) -> list[WeightTensor]:
    """Return the scale at which the largest input of a product is the largest number of its type, if it is known."""
    found = [weights.largest_input(name) for name in linear.group]
    largest = [value for value in found if value is not None]
    if not largest:
        return []
    scale = np.float32(max(*largest, 1e-6)) / np.float32(most)
    return [small_tensor(f"{linear.prefix}.{names.input}", np.full(names.scalar, scale, np.float32))]


def largest_weight(checkpoint: Checkpoint, name: str) -> float:
    """Return the largest |w| of a matrix. Reads it once.

    Raises:
        CheckpointInvalid: A weight is not finite.
    """
    tensor = checkpoint.tensor(name)
    step = max(1, (4 << 20) // (4 * tensor.shape[1]))
    starts = range(0, tensor.shape[0], step)
    return max(float(np.abs(read_rows(tensor, start, min(start + step, tensor.shape[0]))).max()) for start in starts)


def signed_codes(matrix: QuantizedMatrix) -> Array:
    """Return codes around 128 as int8 around 0."""
    return (matrix.codes ^ np.uint8(0x80)).view(np.int8)


def signed_nibbles(matrix: QuantizedMatrix) -> Array:
    """Return codes around 8 as two's complement in the low four bits."""
    nibbles: Array = matrix.codes ^ np.uint8(8)
    return nibbles


def packed_rows(blocks: Iterable[Array]) -> Iterator[Array]:
    """Put two rows of nibbles into one of bytes, the even one low; blocks may have any number of rows."""
    waiting: list[Array] = []
    for block in blocks:
        rows = np.concatenate([*waiting, block])
        even = len(rows) // 2 * 2
        waiting = [rows[even:]]
        yield rows[0:even:2] | rows[1:even:2] << 4
