"""The zero points of signed weights, which say nothing and must be there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from rubricrm_export.graph.builder import GraphBuilder


def int8_zero_points(b: GraphBuilder, weight: str, shape: Sequence[int]) -> ir.Value:
    """Return zeros of the scales' shape, of the weight alone.

    On processors without VNNI, ONNX Runtime makes the INT8 weights of every DequantizeLinear unsigned
    (`session.x64quantprecision`), and fails where zero points are left out or shared.
    """
    return b.constant(f"{weight}.zero_points", np.zeros(shape, np.int8))
