"""One layer's attention: projections, norms of the heads, what the target's form does, and the output projection."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.graph.builder import LayerBuilder
from rubricrm_export.graph.decoder_form import DecoderForm
from rubricrm_export.graph.node_names import attention_name, projections_name


def attended(
    b: LayerBuilder, architecture: Architecture, form: DecoderForm, layer: int, hidden: ir.Value
) -> tuple[ir.Value, Sequence[ir.Value]]:
    """Add one layer's attention up to its output projection.

    Args:
        b: The graph.
        architecture: Sizes.
        form: The target's operators.
        layer: Its number.
        hidden: Normalized input [batch, seq, hidden_size].

    Returns:
        What the output projection multiplies [batch, seq, heads * head_dim], and the present keys and values.
    """
    name, weights = attention_name(layer), f"model.layers.{layer}.self_attn"
    query, key, value = b.projections.linears(b, hidden, weights, name, ("q", "k", "v"))

    def head_norm(x: ir.Value, num_heads: int, part: str) -> ir.Value:
        """Normalize each head: the CPU's attention operator does not, and the order is norm, then rotation."""
        heads = b.op("Reshape", [x, b.integers(0, 0, num_heads, architecture.head_dim)], f"{name}/{part}/split")
        normed = form.rms_norm(b, heads, f"{weights}.{part}.weight", f"{name}/{part}")
        return b.op("Reshape", [normed, b.integers(0, 0, num_heads * architecture.head_dim)], f"{name}/{part}/join")

    if architecture.qk_norm:
        query = head_norm(query, architecture.num_heads, "q_norm")
        key = head_norm(key, architecture.num_kv_heads, "k_norm")
    return form.attend(b, layer, query, key, value, name)


def attention(
    b: LayerBuilder, architecture: Architecture, form: DecoderForm, layer: int, hidden: ir.Value
) -> tuple[ir.Value, Sequence[ir.Value]]:
    """Add one layer's attention; its output is [batch, seq, hidden_size]. See `attended`."""
    output, present = attended(b, architecture, form, layer, hidden)
    weight, name = f"model.layers.{layer}.self_attn.o_proj.weight", projections_name(attention_name(layer), ["o"])
    return b.projections.linear(b, output, weight, name), present
