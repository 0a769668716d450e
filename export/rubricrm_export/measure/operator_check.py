"""Every quantized operator of a bundle is tried before it ships: its result against dequantize and multiply.

A kernel that is wrong on this processor, or for a block size, would otherwise only show as a model that is a little
worse. The matrices are small and random; one row of inputs and several, since kernels differ; inputs that the block
does and does not divide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from rubricrm.runtime.graph import open_graph
from rubricrm.runtime.manifest import FLOAT_WEIGHTS

from rubricrm_export.errors import ExportFailed
from rubricrm_export.graph.builder import CONTRIB, GraphBuilder, MatrixStorage, TableStorage
from rubricrm_export.graph.decoder import IR_VERSION
from rubricrm_export.graph.onnxruntime_form import OPSET
from rubricrm_export.graph.quantized_tensor import MatrixTensors
from rubricrm_export.graph.storage_table import head_storage, projection_storage
from rubricrm_export.quantize.grid import FP8_MAX, Grid
from rubricrm_export.quantize.scheme import Scheme

Float = NDArray[np.float32]

# Relative error of a product. Activations of 8 bits, one scale per block or token, lose 0.4 to 0.8 % on normal
# inputs, FP8 ones 2.5 %; sums of floats in another order 1e-6.
EXACT, INT8, FP8 = 1e-5, 0.02, 0.05
_NUM_OUTPUTS = 48
_NUM_ROWS = (1, 7)


@dataclass(frozen=True)
class OperatorError:
    """How far an operator's result was from the product with the dequantized matrix."""

    operator: str
    in_features: int
    num_rows: int
    relative: float
    tolerance: float


def check_operators(scheme: Scheme) -> None:
    """Try the operators of a scheme on this machine.

    Raises:
        ExportFailed: One of them is wrong.
    """
    for error in operator_errors(scheme):
        if not error.relative <= error.tolerance:
            raise ExportFailed(
                f"{error.operator}: relative error {error.relative:.3g} for {error.num_rows} rows of "
                f"{error.in_features} inputs, expected at most {error.tolerance:g}. The installed onnxruntime computes "
                "it wrongly on this processor: use another version or another --block-size, and please report this."
            )


def operator_errors(scheme: Scheme) -> Iterator[OperatorError]:
    """Yield the errors of a scheme's operators; those of a GPU cannot be tried here."""
    if not scheme.runs_on_cpu:
        return
    if scheme.weights not in FLOAT_WEIGHTS:
        tolerance = {"int8": INT8, "fp8": FP8, "none": _weight_only_tolerance(scheme)}[scheme.activations]
        largest = 127 if scheme.activations == "int8" else FP8_MAX
        for width in _widths(scheme.block_size, is_padded=scheme.target != "tensorrt"):
            sample = _Sample(scheme.grid, width, largest)
            yield from sample.linear_errors(projection_storage(scheme, sample), tolerance)
    if scheme.head_grid is not None:
        for width in _widths(scheme.head_grid.block_size, is_padded=True):
            sample = _Sample(scheme.head_grid, width)
            storage = head_storage(scheme.head_grid, sample)
            yield from sample.linear_errors(storage, INT8)
            yield sample.embedding_error(storage)


def _weight_only_tolerance(scheme: Scheme) -> float:
    return EXACT if scheme.weights == "fp8" or scheme.block_size is None else INT8


def _widths(block_size: int | None, *, is_padded: bool) -> tuple[int, int]:
    """Numbers of inputs that the block divides, and, where such are stored, does not."""
    size = block_size or 64
    return 4 * size, 2 * size + (size // 2 if is_padded else 0)


class _Sample:
    """A random matrix as a source of weights, and graphs of one product with it."""

    def __init__(self, grid: Grid, width: int, largest_code: float = FP8_MAX) -> None:
        self._largest_code = largest_code
        self._rng = np.random.default_rng(width)
        self._matrix = grid.round(self._rng.standard_normal((_NUM_OUTPUTS, width), np.float32))
        self._inputs = self._rng.standard_normal((_NUM_ROWS[-1], width), np.float32)
        self._tensors = MatrixTensors("weight", lambda: iter([self._matrix]), self._matrix.shape)

    def matrix(self, name: str) -> MatrixTensors:  # noqa: ARG002
        """Return the matrix."""
        return self._tensors

    def input_scale(self, name: str) -> float:  # noqa: ARG002
        """Return the scale at which the largest input is the largest code."""
        return float(np.abs(self._inputs).max()) / self._largest_code

    def linear_errors(self, storage: MatrixStorage, tolerance: float) -> Iterator[OperatorError]:
        """Yield the error of a product with one row of inputs, and with several."""
        x = ir.Value(
            name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, "rows", self._inputs.shape[1]])
        )
        b = GraphBuilder(ir.DataType.FLOAT)
        graph, operator = _open(b, x, storage.linear(b, x, "weight", "linear"))
        for num_rows in _NUM_ROWS:
            rows = self._inputs[:num_rows]
            got = graph.run(None, {"x": rows[None]})[0][0]
            expected = rows @ self._matrix.dequantize().T
            yield OperatorError(operator, rows.shape[1], num_rows, _relative(got, expected), tolerance)

    def embedding_error(self, storage: TableStorage) -> OperatorError:
        """Return the error of rows of the matrix."""
        ids = ir.Value(name="x", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([1, "rows"]))
        b = GraphBuilder(ir.DataType.FLOAT)
        graph, operator = _open(b, ids, storage.embed(b, ids, "weight", "embed"))
        chosen = self._rng.integers(0, _NUM_OUTPUTS, 9)
        got, expected = graph.run(None, {"x": chosen[None]})[0][0], self._matrix.dequantize()[chosen]
        return OperatorError(operator, got.shape[1], len(chosen), _relative(got, expected), EXACT)


def _relative(got: Float, expected: Float) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def _open(b: GraphBuilder, x: ir.Value, y: ir.Value) -> tuple[Any, str]:
    """Return the opened graph of what was added, and the names of its operators."""
    y.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [x],
        [y],
        nodes=b.tape.nodes,
        initializers=b.tape.initializers,
        opset_imports={"": OPSET, CONTRIB: 1},
        name="check",
    )
    model = ir.serde.serialize_model(ir.Model(graph, ir_version=IR_VERSION))
    operators = ", ".join(dict.fromkeys(node.op_type for node in b.tape.nodes))
    return open_graph(model.SerializeToString(), threads=1), operators
