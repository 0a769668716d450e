"""FP8 (E4M3) matrices: MatMulBlockQuantizedFp8Weight on CUDA, dequantize and multiply on the CPU.

Written against the operators' schemas and checked in their dequantized form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from rubricrm_export.graph.builder import CONTRIB, GraphBuilder, MatrixStorage
from rubricrm_export.graph.int8_zero_points import int8_zero_points
from rubricrm_export.graph.node_names import product_node
from rubricrm_export.graph.quantized_tensor import MatrixTensors


@dataclass(frozen=True)
class Fp8Storage(MatrixStorage):
    """FP8 matrices [out_features, in_features] with one float32 scale per block of inputs, for the CUDA provider.

    Attributes:
        matrix: Gives the tensors of a weight by its name; the same object each time.
        block_size: Inputs that share a scale; None: a whole row.
        input_scale: Gives the static scale of a weight's activations, which are then rounded to FP8 as well; None:
            activations keep their type.
    """

    matrix: Callable[[str], MatrixTensors]
    block_size: int | None
    input_scale: Callable[[str], float] | None

    def linear(self, b: GraphBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """Multiply; the operator takes 16-bit activations."""
        tensors = self.matrix(weight)
        rows, width = tensors.shape
        block_size = self.block_size or width
        codes = b.parameter(tensors.codes(lambda matrix: matrix.codes, ir.DataType.FLOAT8E4M3FN, [rows, width]))
        scales = b.parameter(tensors.scales(np.float32, [rows, -(-width // block_size)]))
        inputs = [x, codes, scales]
        if self.input_scale is not None:
            inputs.append(b.constant(f"{weight}.input_scale", np.array(self.input_scale(weight), np.float32)))
        return b.op("MatMulBlockQuantizedFp8Weight", inputs, product_node(name), domain=CONTRIB, block_size=block_size)


@dataclass(frozen=True)
class DequantizedStorage(MatrixStorage):
    """Matrices of 8 bits with one scale per row or block, dequantized at every product: slow, for checking on the CPU.

    Attributes:
        matrix: As in `Fp8Storage`.
        block_size: Inputs that share a scale; None: a whole row.
        is_float: Codes are FP8, else signed integers.
        input_scale: As in `Fp8Storage`; the rounding is done by QuantizeLinear.
    """

    matrix: Callable[[str], MatrixTensors]
    block_size: int | None
    is_float: bool
    input_scale: Callable[[str], float] | None = None

    def linear(self, b: GraphBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """Dequantize, then multiply."""
        tensors = self.matrix(weight)
        rows, width = tensors.shape
        if self.is_float:
            codes = tensors.codes(lambda matrix: matrix.codes, ir.DataType.FLOAT8E4M3FN, [rows, width])
        else:
            codes = tensors.codes(
                lambda m: (m.codes.astype(np.int16) - 128).astype(np.int8), ir.DataType.INT8, [rows, width]
            )
        axes: dict[str, Any] = {"axis": 0} if self.block_size is None else {"axis": 1, "block_size": self.block_size}
        shape = [rows] if self.block_size is None else [rows, -(-width // self.block_size)]
        scales = b.parameter(tensors.scales(np.float32, shape))
        zeros = [] if self.is_float else [int8_zero_points(b, weight, shape)]
        matrix = b.op("DequantizeLinear", [b.parameter(codes), scales, *zeros], f"{name}/Dequantize", **axes)
        if self.input_scale is not None:
            x = self._round(b, x, self.input_scale(weight), name)
        return b.op("FusedMatMul", [x, matrix], product_node(name), domain=CONTRIB, transB=1)

    def _round(self, b: GraphBuilder, x: ir.Value, scale: float, name: str) -> ir.Value:
        step = b.constant(f"{name}.input_scale", np.array(scale, np.float32))
        zero = b.constant("constant.fp8.zero", np.zeros((), ml_dtypes.float8_e4m3fn))
        codes = b.op("QuantizeLinear", [x, step, zero], f"{name}/Quantize", saturate=1)
        return b.op("DequantizeLinear", [codes, step], f"{name}/QuantizeDequantize")
