"""What decoders share whose steps take any mix of rows of several slots: flat tokens, and the rows that are wanted."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.graph.attention import attention_weights
from rubricrm_export.graph.builder import LayerBuilder
from rubricrm_export.graph.decoder_form import named_input
from rubricrm_export.graph.kv_storage import KVStorage
from rubricrm_export.graph.node_names import attention_name
from rubricrm_export.graph.onnxruntime_form import OnnxRuntimeForm


class FlatForm(OnnxRuntimeForm):
    """One operator is the whole attention of a layer, the norms of its heads included."""

    token_axes: Sequence[str] = ("tokens",)
    row_axes: Sequence[str] = ("rows",)

    def __init__(self, architecture: Architecture, kv: KVStorage) -> None:
        """Make the form of one graph; as `OnnxRuntimeForm`."""
        super().__init__(architecture, kv)
        self._rows = named_input("logit_rows", ir.DataType.INT64, ["rows"])

    def wanted_rows(self, b: LayerBuilder, hidden: ir.Value) -> ir.Value:
        """As `DecoderForm`: those at `logit_rows`."""
        return b.op("Gather", [hidden, self._rows], "/lm_head/Gather", axis=0)

    def _projected(self, b: LayerBuilder, layer: int, hidden: ir.Value) -> tuple[ir.Value, list[ir.Value | None]]:
        """Return the joined queries, keys and values, and the weights of the norms of query and key heads, or None."""
        weights = attention_weights(layer)
        projected = b.projections.joined(b, hidden, weights, attention_name(layer), ("q", "k", "v"))
        if not self._architecture.qk_norm:
            return projected, [None, None]
        return projected, [b.norm_weight(f"{weights}.{part}_norm.weight") for part in ("q", "k")]
