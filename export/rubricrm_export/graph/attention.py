"""One layer's attention: projections, norms of the heads, what the target's form does, and the output projection."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.graph.builder import LayerBuilder
from rubricrm_export.graph.decoder_form import DecoderForm
from rubricrm_export.graph.node_names import attention_name, projections_name


def projected_heads(
    b: LayerBuilder, architecture: Architecture, form: DecoderForm, layer: int, hidden: ir.Value
) -> Sequence[ir.Value]:
    """Project queries, keys and values, and normalize the heads: for operators of attention that do not.

    Args:
        b: The graph.
        architecture: Sizes.
        form: Its norm is taken.
        layer: Its number.
        hidden: Normalized input [batch, seq, hidden_size].

    Returns:
        Queries [batch, seq, heads * head_dim], keys and values [batch, seq, kv_heads * head_dim].
    """
    name, weights = attention_name(layer), attention_weights(layer)
    query, key, value = b.projections.linears(b, hidden, weights, name, ("q", "k", "v"))

    def head_norm(x: ir.Value, num_heads: int, part: str) -> ir.Value:
        """Normalize each head; the order is norm, then rotation."""
        heads = b.op("Reshape", [x, b.integers(0, 0, num_heads, architecture.head_dim)], f"{name}/{part}/split")
        normed = form.rms_norm(b, heads, f"{weights}.{part}.weight", f"{name}/{part}")
        return b.op("Reshape", [normed, b.integers(0, 0, num_heads * architecture.head_dim)], f"{name}/{part}/join")

    if architecture.qk_norm:
        query = head_norm(query, architecture.num_heads, "q_norm")
        key = head_norm(key, architecture.num_kv_heads, "k_norm")
    return query, key, value


def attention_weights(layer: int) -> str:
    """Return what the names of a layer's attention weights begin with."""
    return f"model.layers.{layer}.self_attn"


def attention(b: LayerBuilder, form: DecoderForm, layer: int, hidden: ir.Value) -> tuple[ir.Value, Sequence[ir.Value]]:
    """Add one layer's attention.

    Returns:
        Its output, of the shape of `hidden`, and the present keys and values where they are values of the graph.
    """
    output, present = form.attend(b, layer, hidden)
    weight, name = f"{attention_weights(layer)}.o_proj.weight", projections_name(attention_name(layer), ["o"])
    return b.projections.linear(b, output, weight, name), present
