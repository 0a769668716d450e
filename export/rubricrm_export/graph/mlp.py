"""The gated feed-forward part of a layer (SwiGLU; Shazeer, arXiv 2002.05202)."""

from __future__ import annotations

import onnx_ir as ir

from rubricrm_export.graph.builder import DecoderBuilder


def mlp(b: DecoderBuilder, layer: int, hidden: ir.Value) -> ir.Value:
    """Add down(silu(gate(x)) * up(x)) for x [batch, seq, hidden_size]."""
    name, weights = f"/layers.{layer}/mlp", f"model.layers.{layer}.mlp"
    gate = b.projections.linear(b, hidden, f"{weights}.gate_proj.weight", f"{name}/gate_proj")
    up = b.projections.linear(b, hidden, f"{weights}.up_proj.weight", f"{name}/up_proj")
    # ONNX Runtime fuses the two nodes of SiLU into one.
    silu = b.op("Mul", [gate, b.op("Sigmoid", [gate], f"{name}/Sigmoid")], f"{name}/silu")
    return b.projections.linear(
        b, b.op("Mul", [silu, up], f"{name}/Mul"), f"{weights}.down_proj.weight", f"{name}/down_proj"
    )
