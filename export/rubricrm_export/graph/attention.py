"""Grouped-query attention with rotary positions and a shared past/present buffer (GroupQueryAttention)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rubricrm_export.architecture import Architecture
from rubricrm_export.graph.builder import CONTRIB, DecoderBuilder
from rubricrm_export.graph.kv_storage import KVStorage


@dataclass(frozen=True)
class AttentionInputs:
    """What every layer's attention reads besides its own tensors.

    Attributes:
        seqlens_k: int32 [batch], index of each sequence's last token.
        total_length: int32 scalar, past and new tokens.
        cos: [context, head_dim / 2].
        sin: [context, head_dim / 2].
    """

    seqlens_k: ir.Value
    total_length: ir.Value
    cos: ir.Value
    sin: ir.Value

    @property
    def values(self) -> tuple[ir.Value, ...]:
        """In the order of GroupQueryAttention's inputs."""
        return self.seqlens_k, self.total_length, self.cos, self.sin


def attention_inputs(b: DecoderBuilder, architecture: Architecture, mask: ir.Value) -> AttentionInputs:
    """Derive lengths from the mask [batch, total], whose padding is on the right, and add the rotary tables."""
    lengths = b.op("ReduceSum", [mask, b.integers(1)], "/mask/ReduceSum", keepdims=0)
    last = b.op("Sub", [lengths, b.integers(1)], "/mask/Sub")
    total = b.op("Gather", [b.op("Shape", [mask], "/mask/Shape"), b.scalar(1)], "/mask/Gather", axis=0)
    cos, sin = rotary_tables(architecture)
    return AttentionInputs(
        seqlens_k=b.op("Cast", [last], "/mask/seqlens_k", to=ir.DataType.INT32),
        total_length=b.op("Cast", [total], "/mask/total_length", to=ir.DataType.INT32),
        cos=b.table("cos_cache", cos),
        sin=b.table("sin_cache", sin),
    )


def rotary_tables(architecture: Architecture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosines and sines [context, head_dim / 2] of the rotary positions (Su et al., arXiv 2104.09864).

    Angles are float32 products, as in the code that these models were trained with.
    """
    exponents = np.arange(0, architecture.head_dim, 2, dtype=np.float32) / np.float32(architecture.head_dim)
    frequencies = (1.0 / np.float32(architecture.rope_theta) ** exponents).astype(np.float32)
    angles = np.outer(np.arange(architecture.context_length, dtype=np.float32), frequencies)
    return np.cos(angles), np.sin(angles)


def attention(
    b: DecoderBuilder,
    architecture: Architecture,
    layer: int,
    hidden: ir.Value,
    inputs: AttentionInputs,
    past: Sequence[ir.Value],
    kv: KVStorage,
) -> tuple[ir.Value, list[ir.Value]]:
    """Add one layer's attention.

    Args:
        b: The graph.
        architecture: Sizes.
        layer: Its number.
        hidden: Normalized input [batch, seq, hidden_size].
        inputs: Shared by all layers.
        past: Keys and values, each [batch, kv_heads, positions, head_dim].
        kv: How they are stored.

    Returns:
        The output [batch, seq, hidden_size], and the present keys and values.
    """
    name, weights = f"/layers.{layer}/attn", f"model.layers.{layer}.self_attn"
    query, key, value = (
        b.projections.linear(b, hidden, f"{weights}.{p}_proj.weight", f"{name}/{p}_proj") for p in "qkv"
    )
    if architecture.qk_norm:
        query = _head_norm(b, architecture, query, architecture.num_heads, f"{weights}.q_norm.weight", f"{name}/q_norm")
        key = _head_norm(b, architecture, key, architecture.num_kv_heads, f"{weights}.k_norm.weight", f"{name}/k_norm")
    output, *present = b.tape.op_multi_out(
        "GroupQueryAttention",
        [query, key, value, *past, *inputs.values, *kv.inputs(b, layer)],
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
    return b.projections.linear(b, output, f"{weights}.o_proj.weight", f"{name}/o_proj"), present


def _head_norm(
    b: DecoderBuilder, architecture: Architecture, x: ir.Value, num_heads: int, weight: str, name: str
) -> ir.Value:
    """Normalize each head: the CPU's attention operator does not, and the order is norm, then rotation."""
    heads = b.op("Reshape", [x, b.integers(0, 0, num_heads, architecture.head_dim)], f"{name}/split")
    normed = b.rms_norm(heads, weight, architecture.rms_norm_eps, name)
    return b.op("Reshape", [normed, b.integers(0, 0, num_heads * architecture.head_dim)], f"{name}/join")
