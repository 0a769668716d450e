"""Matrices of 4 or 8 bits between QuantizeLinear and DequantizeLinear: standard ONNX, in the forms TensorRT documents.

Its documentation of explicit quantization: symmetric; INT8 and FP8 for weights and activations, INT4 for weights alone;
scales of weights one per output channel, or for INT4 one per block of inputs; of activations one, known beforehand.
DequantizeLinear stands directly before the product. Not run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx_ir as ir

from rubricrm_export.graph.builder import NUMPY_TYPES, GraphBuilder, MatrixStorage
from rubricrm_export.graph.int8_zero_points import int8_zero_points
from rubricrm_export.graph.node_names import product_node
from rubricrm_export.graph.quantized_tensor import Array, MatrixTensors

_ZERO_POINTS = {
    ir.DataType.INT8: np.zeros((), np.int8),
    ir.DataType.FLOAT8E4M3FN: np.zeros((), ml_dtypes.float8_e4m3fn),
}


@dataclass(frozen=True)
class QdqStorage(MatrixStorage):
    """Matrices stored as [in_features, out_features], the order in which a product reads them.

    Attributes:
        matrix: Gives the tensors of a weight by its name; the same object each time.
        dtype: INT4, INT8 or FLOAT8E4M3FN.
        block_size: Inputs that share a scale, which divides them; None: all.
        input_scale: Gives the static scale of the activations that meet a weight; None: they keep their type.
    """

    matrix: Callable[[str], MatrixTensors]
    dtype: ir.DataType
    block_size: int | None
    input_scale: Callable[[str], float] | None
    _rounded: dict[tuple[str, float], ir.Value] = field(default_factory=dict)

    def linear(self, b: GraphBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """Round the activations where they are, dequantize the weight, multiply."""
        tensors = self.matrix(weight)
        rows, width = tensors.shape
        codes = b.parameter(tensors.transposed_codes(self._stored, self.dtype))
        scale_type = NUMPY_TYPES[b.computed]
        if self.block_size is None:
            scales = b.parameter(tensors.scales(scale_type, [rows]))
            zeros = [int8_zero_points(b, weight, [rows])] if self.dtype == ir.DataType.INT8 else []
            matrix = b.op("DequantizeLinear", [codes, scales, *zeros], f"{name}/Dequantize", axis=1)
        else:
            scales = b.parameter(tensors.transposed_scales(scale_type, [rows, width // self.block_size]))
            matrix = b.op("DequantizeLinear", [codes, scales], f"{name}/Dequantize", axis=0, block_size=self.block_size)
        if self.input_scale is not None:
            x = self._round(b, x, self.input_scale(weight))
        return b.op("MatMul", [x, matrix], product_node(name))

    def _stored(self, codes: Array) -> Array:
        """Turn codes [out_features, in_features] of a whole matrix into the bytes of the tensor."""
        if self.dtype == ir.DataType.FLOAT8E4M3FN:
            return np.ascontiguousarray(codes.T)
        middle = 8 if self.dtype == ir.DataType.INT4 else 128
        signed = np.ascontiguousarray(codes.T) - np.uint8(middle)  # wraps: two's complement
        if self.dtype == ir.DataType.INT8:
            return signed.view(np.int8)
        nibbles = signed.reshape(-1) & np.uint8(15)
        if nibbles.size % 2:
            nibbles = np.append(nibbles, np.uint8(0))
        packed: Array = nibbles[::2] | nibbles[1::2] << 4
        return packed

    def _round(self, b: GraphBuilder, x: ir.Value, scale: float) -> ir.Value:
        """Return x rounded to 8 bits; products with the same input share it."""
        key = str(x.name), scale
        if key not in self._rounded:
            name = key[0].removesuffix("/output")
            step = b.constant(f"{name}.scale", np.array(scale, NUMPY_TYPES[b.computed]))
            zero = b.constant(f"constant.{self.dtype.name.lower()}.zero", _ZERO_POINTS[self.dtype])
            codes = b.op("QuantizeLinear", [x, step, zero], f"{name}/Quantize")
            self._rounded[key] = b.op("DequantizeLinear", [codes, step, zero], f"{name}/QuantizeDequantize")
        return self._rounded[key]
