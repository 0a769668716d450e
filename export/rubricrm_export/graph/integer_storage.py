"""INT8 weights and activations (W8A8): integer matrix products, one scale per token and one per output channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from rubricrm_export.graph.builder import CONTRIB, GraphBuilder, MatrixStorage
from rubricrm_export.graph.node_names import product_node
from rubricrm_export.graph.quantized_tensor import MatrixTensors

_MIDDLE = 128
_SMALLEST = 1e-20  # scale of a token of zeros


@dataclass(frozen=True)
class IntegerStorage(MatrixStorage):
    """Weights uint8 [in_features, out_features], one scale per column; activations of 8 bits, one scale per token.

    DynamicQuantizeMatMul does the same with one scale for all tokens at hand: a loud one then drowns the others
    (measured: relative error 0.71 beside a token a hundred times larger, 0.008 here), and a token's result would
    depend on its neighbours. Projections of one input share its rounding. Both sides are unsigned: signed weights
    overflow in the kernels of processors without VNNI.
    """

    matrix: Callable[[str], MatrixTensors]
    _rounded: dict[str, tuple[ir.Value, ir.Value]] = field(default_factory=dict)

    def linear(self, b: GraphBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """Multiply integers, then scale."""
        tensors = self.matrix(weight)
        rows, width = tensors.shape
        codes, token_scale = self._round(b, x, width)
        product = b.op(
            "MatMulIntegerToFloat",
            [
                codes,
                b.parameter(tensors.transposed_codes(lambda codes: codes.T, ir.DataType.UINT8)),
                b.constant("constant.float32.1", np.array(1, np.float32)),
                b.parameter(tensors.scales(np.float32, [rows])),
                b.constant("constant.uint8.middle", np.array(_MIDDLE, np.uint8)),
                b.constant(f"constant.uint8.middle.{rows}", np.full(rows, _MIDDLE, np.uint8)),
            ],
            product_node(name),
            domain=CONTRIB,
        )
        return b.op("Mul", [product, token_scale], f"{name}/scale")

    def _round(self, b: GraphBuilder, x: ir.Value, width: int) -> tuple[ir.Value, ir.Value]:
        """Return codes uint8 of x's shape and the scales [..., 1]."""
        name = str(x.name).removesuffix("/output")
        if name not in self._rounded:
            size = b.op("Abs", [x], f"{name}/Abs")
            largest = b.op("ReduceMax", [size, b.integers(-1)], f"{name}/ReduceMax", keepdims=1)
            step = b.op(
                "Mul", [largest, b.constant("constant.float32.step", np.array(1 / 127, np.float32))], f"{name}/step"
            )
            smallest = b.constant("constant.float32.smallest", np.array(_SMALLEST, np.float32))
            scale = b.op("Max", [step, smallest], f"{name}/token_scale")
            middle = b.constant("constant.uint8.middle", np.array(_MIDDLE, np.uint8))
            zero_points = b.op("Expand", [middle, b.op("Shape", [scale], f"{name}/Shape")], f"{name}/zero_points")
            codes = b.op("QuantizeLinear", [x, scale, zero_points], f"{name}/Quantize", axis=-1, block_size=width)
            self._rounded[name] = codes, scale
        return self._rounded[name]
