"""A decoder for CUDA whose steps take any mix of rows of several slots, in ONNX Runtime's own operators."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.graph.builder import CONTRIB, LayerBuilder
from rubricrm_export.graph.decoder_form import named_input
from rubricrm_export.graph.flat_form import FlatForm
from rubricrm_export.graph.kv_storage import KVStorage
from rubricrm_export.graph.node_names import attention_name
from rubricrm_export.graph.rotary import rotary_tables


class PagedForm(FlatForm):
    """PagedAttention normalizes the heads, rotates, writes into the blocks that a table names, and attends.

    The operator has outputs that stand for its caches. They are left out: it writes its inputs in place, and would
    refuse others.
    """

    def __init__(self, architecture: Architecture, kv: KVStorage) -> None:
        """Make the form of one graph; as `OnnxRuntimeForm`."""
        super().__init__(architecture, kv)
        self._step: list[ir.Value] = []
        self._metadata = named_input("attention_metadata", ir.DataType.INT32, [3])

    def inputs(self, b: LayerBuilder) -> Sequence[ir.Value]:
        """As `DecoderForm`."""
        architecture, int32 = self._architecture, ir.DataType.INT32
        sequences = [
            named_input("cumulative_sequence_length", int32, ["sequences_and_1"]),
            named_input("past_seqlens", int32, ["sequences"]),
            named_input("block_table", int32, ["sequences", "blocks_per_sequence"]),
        ]
        cos, sin = rotary_tables(architecture)
        # In the order of the operator's inputs after the caches.
        self._step = [*sequences, b.table("cos_cache", cos), b.table("sin_cache", sin)]
        shape: list[str | int] = ["blocks", "block_size", architecture.num_kv_heads, architecture.head_dim]
        self._pasts = []
        for layer in range(architecture.num_layers):
            key, value = (named_input(f"{half}_cache.{layer}", self._kv.dtype, shape) for half in ("key", "value"))
            self._pasts.append((key, value))
        caches = (half for pair in self._pasts for half in pair)
        return [*sequences, self._metadata, self._rows, *caches]

    def attend(self, b: LayerBuilder, layer: int, hidden: ir.Value) -> tuple[ir.Value, Sequence[ir.Value]]:
        """As `DecoderForm`."""
        architecture, name = self._architecture, attention_name(layer)
        projected, norms = self._projected(b, layer, hidden)
        scales: Sequence[ir.Value | None] = self._kv.scale_inputs(b, layer) or (None, None)
        # Without key and value: the first input is all three. Neither a map of writes nor sinks are used.
        inputs = [projected, None, None, *self._pasts[layer], *self._step, None, None, *norms, *scales, self._metadata]
        output = b.op(
            "PagedAttention",
            inputs,
            f"{name}/PagedAttention",
            domain=CONTRIB,
            num_heads=architecture.num_heads,
            kv_num_heads=architecture.num_kv_heads,
            do_rotary=1,
            qk_norm_epsilon=architecture.rms_norm_eps,
            **self._kv.granularities(layer),
        )
        return output, []
