"""A decoder in ONNX Runtime's own operators: for its CPU and CUDA providers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.graph.attention import projected_heads
from rubricrm_export.graph.builder import CONTRIB, LayerBuilder
from rubricrm_export.graph.decoder_form import cache_pair, cache_shape, describe, named_input
from rubricrm_export.graph.kv_storage import KVStorage
from rubricrm_export.graph.node_names import attention_name, norm_node, sum_value
from rubricrm_export.graph.rotary import rotary_tables

OPSET = 23  # the first with RMSNormalization
ALL_ROWS = 2**31
_END = 2**63 - 1


class OnnxRuntimeForm:
    """GroupQueryAttention rotates, and appends to a buffer that past and present share; sum and norm are one operator.

    Attributes:
        opset_imports: As `DecoderForm`.
        token_axes: As `DecoderForm`.
        row_axes: As `DecoderForm`.
    """

    token_axes: Sequence[str] = ("batch_size", "sequence_length")
    row_axes: Sequence[str] = ("batch_size", "num_rows")

    def __init__(self, architecture: Architecture, kv: KVStorage) -> None:
        """Make the form of one graph.

        Args:
            architecture: Sizes.
            kv: How keys and values are stored.
        """
        self.opset_imports = {"": OPSET, CONTRIB: 1}
        self._architecture = architecture
        self._kv = kv
        self._pasts: list[tuple[ir.Value, ir.Value]] = []
        self._lengths: list[ir.Value] = []
        self._num_logits: ir.Value | None = None

    def inputs(self, b: LayerBuilder) -> Sequence[ir.Value]:
        """As `DecoderForm`; the mask [batch, total] has its padding on the right."""
        mask = named_input("attention_mask", ir.DataType.INT64, ["batch_size", "total_sequence_length"])
        self._num_logits = b.tape.initializer(ir.tensor(np.array([ALL_ROWS], np.int64), name="num_logits"))
        self._pasts = [
            cache_pair(self._architecture, self._kv.dtype, layer, "past_sequence_length")
            for layer in range(self._architecture.num_layers)
        ]
        lengths = b.op("ReduceSum", [mask, b.integers(1)], "/mask/ReduceSum", keepdims=0)
        last = b.op("Sub", [lengths, b.integers(1)], "/mask/Sub")
        total = b.op("Gather", [b.op("Shape", [mask], "/mask/Shape"), b.scalar(1)], "/mask/Gather", axis=0)
        cos, sin = rotary_tables(self._architecture)
        # As GroupQueryAttention wants them: index of each sequence's last token [batch], number of past and new tokens.
        self._lengths = [
            b.op("Cast", [last], "/mask/seqlens_k", to=ir.DataType.INT32),
            b.op("Cast", [total], "/mask/total_length", to=ir.DataType.INT32),
            b.table("cos_cache", cos),
            b.table("sin_cache", sin),
        ]
        return [mask, *(half for past in self._pasts for half in past), self._num_logits]

    def rms_norm(self, b: LayerBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """As `DecoderForm`."""
        epsilon = self._architecture.rms_norm_eps
        return b.op("RMSNormalization", [x, b.norm_weight(weight)], norm_node(name), axis=-1, epsilon=epsilon)

    def add_and_norm(
        self, b: LayerBuilder, residual: ir.Value, update: ir.Value, weight: str, name: str
    ) -> tuple[ir.Value, ir.Value]:
        """As `DecoderForm`."""
        normed, _, _, total = b.tape.op_multi_out(
            "SkipSimplifiedLayerNormalization",
            [residual, update, b.norm_weight(weight)],
            {"epsilon": self._architecture.rms_norm_eps},
            domain=CONTRIB,
            num_outputs=4,
            name=f"{name}/SkipNorm",
        )
        normed.name, total.name = f"{name}/output", sum_value(name)
        return normed, total

    def attend(self, b: LayerBuilder, layer: int, hidden: ir.Value) -> tuple[ir.Value, Sequence[ir.Value]]:
        """As `DecoderForm`."""
        architecture, kv, name = self._architecture, self._kv, attention_name(layer)
        query, key, value = projected_heads(b, architecture, self, layer, hidden)
        output, *present = b.tape.op_multi_out(
            "GroupQueryAttention",
            [query, key, value, *self._pasts[layer], *self._lengths, *kv.inputs(b, layer)],
            {
                "num_heads": architecture.num_heads,
                "kv_num_heads": architecture.num_kv_heads,
                "do_rotary": 1,
                **kv.attributes(layer),
            },
            domain=CONTRIB,
            num_outputs=3,
            name=f"{name}/GroupQueryAttention",
        )
        output.name = f"{name}/output"
        shape = cache_shape(architecture, "total_sequence_length")
        for half, made in zip(("key", "value"), present, strict=True):
            describe(made, f"present.{layer}.{half}", kv.dtype, shape)
        return output, present

    def wanted_rows(self, b: LayerBuilder, hidden: ir.Value) -> ir.Value:
        """As `DecoderForm`: the last `num_logits`, by default all."""
        start = b.op("Neg", [self._num_logits], "/lm_head/Neg")
        return b.op("Slice", [hidden, start, b.integers(_END), b.integers(1)], "/lm_head/Slice")
