"""How keys and values are stored between steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rubricrm_export.graph.builder import GraphBuilder

# For each layer the scales of keys and of values, float32 [kv_heads, 1, head_dim] or [1].
KVScales = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class KVStorage:
    """The KV cache's element type and, where that is narrower than the computed one, its scales.

    `stored = round(value / scale)`, keys after their rotation (docs of GroupQueryAttention, com.microsoft).

    Attributes:
        dtype: FLOAT, FLOAT16, BFLOAT16, INT8 or FLOAT8E4M3FN.
        scales: See `KVScales`; None: not scaled.
    """

    dtype: ir.DataType
    scales: KVScales | None = None

    def inputs(self, b: GraphBuilder, layer: int) -> list[ir.Value | None]:
        """Return GroupQueryAttention's inputs after the rotary tables, up to the scales."""
        # position_ids, attention_bias and head_sink are not used
        return [] if self.scales is None else [None, None, None, *self.scale_inputs(b, layer)]

    def scale_inputs(self, b: GraphBuilder, layer: int) -> list[ir.Value]:
        """Return the scales of a layer's keys and values; none where they are not scaled."""
        if self.scales is None:
            return []
        name = f"model.layers.{layer}.self_attn"
        return [b.constant(f"{name}.{part}_scale", scale) for part, scale in zip("kv", self.scales[layer], strict=True)]

    def attributes(self, layer: int) -> dict[str, Any]:
        """Return GroupQueryAttention's attributes."""
        return {} if self.scales is None else {**self.granularities(layer), "kv_cache_bit_width": 8}

    def granularities(self, layer: int) -> dict[str, Any]:
        """Return the attributes that say how many scales there are; PagedAttention takes the width from the type."""
        if self.scales is None:
            return {}
        k_type, v_type = ("PER_TENSOR" if scale.size == 1 else "PER_CHANNEL" for scale in self.scales[layer])
        return {"k_quant_type": k_type, "v_quant_type": v_type}
