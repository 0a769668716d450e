"""The gated feed-forward part of a layer (SwiGLU; Shazeer, arXiv 2002.05202)."""

from __future__ import annotations

import onnx_ir as ir

from rubricrm_export.graph.builder import DecoderBuilder
from rubricrm_export.graph.node_names import mlp_name, projections_name


def mlp(b: DecoderBuilder, layer: int, hidden: ir.Value) -> ir.Value:
    """Add down(silu(gate(x)) * up(x)) for x [batch, seq, hidden_size]."""
    name, weights = mlp_name(layer), f"model.layers.{layer}.mlp"
    gate = b.projections.linear(b, hidden, f"{weights}.gate_proj.weight", projections_name(name, ["gate"]))
    up = b.projections.linear(b, hidden, f"{weights}.up_proj.weight", projections_name(name, ["up"]))
    # ONNX Runtime fuses the two nodes of SiLU into one.
    silu = b.op("Mul", [gate, b.op("Sigmoid", [gate], f"{name}/Sigmoid")], f"{name}/silu")
    gated = b.op("Mul", [silu, up], f"{name}/Mul")
    return b.projections.linear(b, gated, f"{weights}.down_proj.weight", projections_name(name, ["down"]))
