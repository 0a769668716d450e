"""A decoder in standard ONNX alone, in the forms that TensorRT's parser takes: for its two execution providers.

Keys and values are scattered into a buffer of fixed length, which TensorRT updates in place (IKVCacheUpdateLayer; the
input of its network must be the past, the output the present). Attention has one output: with past and present of its
own TensorRT refuses it (NVIDIA/TensorRT #4738). Not run on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.graph.attention import projected_heads
from rubricrm_export.graph.builder import LayerBuilder
from rubricrm_export.graph.decoder_form import cache_pair, cache_shape, describe, named_input
from rubricrm_export.graph.node_names import attention_name, norm_node, sum_value
from rubricrm_export.graph.rotary import rotary_tables

OPSET = 24  # the first with TensorScatter


class StandardForm:
    """RotaryEmbedding, TensorScatter and Attention; norms in float32.

    Attributes:
        opset_imports: As `DecoderForm`.
        token_axes: As `DecoderForm`.
        row_axes: As `DecoderForm`.
    """

    token_axes: Sequence[str] = ("batch_size", "sequence_length")
    row_axes: Sequence[str] = ("batch_size", "num_rows")

    def __init__(self, architecture: Architecture, kv_type: ir.DataType) -> None:
        """Make the form of one graph.

        Args:
            architecture: Sizes; its context is the length of the buffers.
            kv_type: Element type of keys and values: that of the activations.
        """
        self.opset_imports = {"": OPSET}
        self._architecture = architecture
        self._kv_type = kv_type
        self._pasts: list[tuple[ir.Value, ir.Value]] = []
        self._positions = named_input("position_ids", ir.DataType.INT64, ["batch_size", "sequence_length"])
        self._start = named_input("write_indices", ir.DataType.INT64, ["batch_size"])
        self._rows = named_input("logit_rows", ir.DataType.INT64, ["num_rows"])
        self._mask: ir.Value | None = None
        self._rotation: list[ir.Value] = []

    def inputs(self, b: LayerBuilder) -> Sequence[ir.Value]:
        """As `DecoderForm`."""
        architecture = self._architecture
        self._pasts = [
            cache_pair(architecture, self._kv_type, layer, architecture.context_length)
            for layer in range(architecture.num_layers)
        ]
        # [batch, 1, seq, context]: a token sees the positions up to its own, whatever lies in the buffer after them.
        places = b.constant("places", np.arange(architecture.context_length, dtype=np.int64))
        positions = b.op("Unsqueeze", [self._positions, b.integers(1, 3)], "/mask/Unsqueeze")
        self._mask = b.op("GreaterOrEqual", [positions, places], "/mask/GreaterOrEqual")
        cos, sin = rotary_tables(architecture)
        self._rotation = [b.table("cos_cache", cos), b.table("sin_cache", sin)]
        return [self._positions, self._start, *(half for past in self._pasts for half in past), self._rows]

    def rms_norm(self, b: LayerBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """As `DecoderForm`, of operators that every parser knows; in float32, since squares overflow FP16."""
        exact = x if b.computed == ir.DataType.FLOAT else b.op("Cast", [x], f"{name}/widen", to=ir.DataType.FLOAT)
        square = b.op("Mul", [exact, exact], f"{name}/square")
        mean = b.op("ReduceMean", [square, b.integers(-1)], f"{name}/mean", keepdims=1)
        epsilon = b.constant("epsilon", np.array(self._architecture.rms_norm_eps, np.float32))
        root = b.op("Sqrt", [b.op("Add", [mean, epsilon], f"{name}/plus_epsilon")], f"{name}/Sqrt")
        normed = b.op("Div", [exact, root], f"{name}/Div")
        if b.computed != ir.DataType.FLOAT:
            normed = b.op("Cast", [normed], f"{name}/narrow", to=b.computed)
        return b.op("Mul", [normed, b.norm_weight(weight)], norm_node(name))

    def add_and_norm(
        self, b: LayerBuilder, residual: ir.Value, update: ir.Value, weight: str, name: str
    ) -> tuple[ir.Value, ir.Value]:
        """As `DecoderForm`."""
        total = b.op("Add", [residual, update], f"{name}/Add")
        total.name = sum_value(name)
        return self.rms_norm(b, total, weight, name), total

    def attend(self, b: LayerBuilder, layer: int, hidden: ir.Value) -> tuple[ir.Value, Sequence[ir.Value]]:
        """As `DecoderForm`."""
        architecture, name = self._architecture, attention_name(layer)
        query, key, value = projected_heads(b, architecture, self, layer, hidden)
        heads, kv_heads, head_dim = architecture.num_heads, architecture.num_kv_heads, architecture.head_dim
        query = self._rotated(b, self._split(b, query, heads, f"{name}/query"), f"{name}/query")
        key = self._rotated(b, self._split(b, key, kv_heads, f"{name}/key"), f"{name}/key")
        value = self._split(b, value, kv_heads, f"{name}/value")
        shape = cache_shape(architecture, architecture.context_length)
        present = []
        for half, past, new in zip(("key", "value"), self._pasts[layer], (key, value), strict=True):
            made = b.op("TensorScatter", [past, new, self._start], f"{name}/{half}/TensorScatter", axis=2)
            present.append(describe(made, f"present.{layer}.{half}", self._kv_type, shape))
        attended = b.op("Attention", [query, *present, self._mask], f"{name}/Attention")
        joined = b.op("Transpose", [attended], f"{name}/Transpose", perm=[0, 2, 1, 3])
        output = b.op("Reshape", [joined, b.integers(0, 0, heads * head_dim)], f"{name}/join")
        return output, present

    def wanted_rows(self, b: LayerBuilder, hidden: ir.Value) -> ir.Value:
        """As `DecoderForm`: those at `logit_rows`. Their number is a shape, which no engine must read from a tensor."""
        return b.op("Gather", [hidden, self._rows], "/lm_head/Gather", axis=1)

    def _split(self, b: LayerBuilder, x: ir.Value, num_heads: int, name: str) -> ir.Value:
        """Return [batch, heads, seq, head_dim]."""
        split = b.op("Reshape", [x, b.integers(0, 0, num_heads, self._architecture.head_dim)], f"{name}/split")
        return b.op("Transpose", [split], f"{name}/Transpose", perm=[0, 2, 1, 3])

    def _rotated(self, b: LayerBuilder, x: ir.Value, name: str) -> ir.Value:
        return b.op("RotaryEmbedding", [x, *self._rotation, self._positions], f"{name}/RotaryEmbedding")
