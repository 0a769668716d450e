"""How each operator of `quantize.combinations` is written: the table's text is the key of what makes the storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from rubricrm_export.graph.block_storage import BlockStorage
from rubricrm_export.graph.builder import MatrixStorage, TableStorage
from rubricrm_export.graph.fp8_storage import DequantizedStorage, Fp8Storage
from rubricrm_export.graph.integer_storage import IntegerStorage
from rubricrm_export.graph.qdq_storage import QdqStorage
from rubricrm_export.graph.rounded_weights import MatrixSource
from rubricrm_export.quantize.grid import IntegerGrid
from rubricrm_export.quantize.scheme import Scheme

BLOCK_OPERATOR = "MatMulNBits"
_QDQ_TYPES = {"int4": ir.DataType.INT4, "int8": ir.DataType.INT8, "fp8": ir.DataType.FLOAT8E4M3FN}


def _blocks(scheme: Scheme, weights: MatrixSource) -> MatrixStorage:
    assert scheme.block_size is not None
    return BlockStorage(weights.matrix, scheme.grid.bits, scheme.block_size, scheme.symmetric)


def _integers(scheme: Scheme, weights: MatrixSource) -> MatrixStorage:  # noqa: ARG001
    return IntegerStorage(weights.matrix)


def _fp8(scheme: Scheme, weights: MatrixSource) -> MatrixStorage:
    return Fp8Storage(weights.matrix, scheme.block_size, _input_scale(scheme, weights))


def _dequantized(scheme: Scheme, weights: MatrixSource) -> MatrixStorage:
    is_float = scheme.weights == "fp8"
    return DequantizedStorage(weights.matrix, scheme.block_size, is_float, _input_scale(scheme, weights))


def _qdq(scheme: Scheme, weights: MatrixSource) -> MatrixStorage:
    dtype = _QDQ_TYPES[scheme.weights]
    return QdqStorage(weights.matrix, dtype, scheme.block_size, _input_scale(scheme, weights))


STORAGES: Mapping[str, Callable[[Scheme, MatrixSource], MatrixStorage]] = {
    BLOCK_OPERATOR: _blocks,
    "MatMulIntegerToFloat": _integers,
    "MatMulBlockQuantizedFp8Weight": _fp8,
    "DequantizeLinear + FusedMatMul": _dequantized,
    "QuantizeLinear, DequantizeLinear + FusedMatMul": _dequantized,
    "DequantizeLinear + MatMul": _qdq,
    "QuantizeLinear, DequantizeLinear + MatMul": _qdq,
}


def projection_storage(scheme: Scheme, weights: MatrixSource) -> MatrixStorage:
    """Return how the quantized matrices of the layers are stored and multiplied."""
    return STORAGES[scheme.operator](scheme, weights)


def head_storage(grid: IntegerGrid, weights: MatrixSource) -> TableStorage:
    """Return how a quantized embedding and output head are stored and multiplied: in blocks on every target."""
    assert grid.block_size is not None
    return BlockStorage(weights.matrix, grid.bits, grid.block_size, grid.symmetric)


def _input_scale(scheme: Scheme, weights: MatrixSource) -> Callable[[str], float] | None:
    return weights.input_scale if scheme.has_static_activations else None
