"""The gated feed-forward part of a layer (SwiGLU; Shazeer, arXiv 2002.05202)."""

from __future__ import annotations

import onnx_ir as ir

from rubricrm_export.graph.builder import LayerBuilder
from rubricrm_export.graph.node_names import mlp_name, projections_name


def gated(b: LayerBuilder, layer: int, hidden: ir.Value) -> ir.Value:
    """Add silu(gate(x)) * up(x) for x [..., hidden_size]: what the down projection multiplies."""
    return b.projections.gated(b, hidden, f"model.layers.{layer}.mlp", mlp_name(layer))


def mlp(b: LayerBuilder, layer: int, hidden: ir.Value) -> ir.Value:
    """Add down(silu(gate(x)) * up(x)) for x [..., hidden_size]."""
    weight, name = f"model.layers.{layer}.mlp.down_proj.weight", projections_name(mlp_name(layer), ["down"])
    return b.projections.linear(b, gated(b, layer, hidden), weight, name)
