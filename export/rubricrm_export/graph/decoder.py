"""The whole decoder: embedding, layers, final norm, head. Read from top to bottom, it is the model.

The names of inputs and outputs are those that other runtimes know (docs/BUNDLE.md).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rubricrm_export.architecture import EMBEDDING, LM_HEAD, Architecture
from rubricrm_export.graph.attention import attention, attention_inputs
from rubricrm_export.graph.builder import CONTRIB, DecoderBuilder
from rubricrm_export.graph.kv_storage import KVStorage
from rubricrm_export.graph.mlp import mlp

OPSET = 23  # the first with RMSNormalization
IR_VERSION = 11
ALL_ROWS = 2**31
_END = 2**63 - 1


def build_decoder(b: DecoderBuilder, architecture: Architecture, kv: KVStorage, *, tied: bool) -> ir.Model:
    """Author the graph. No weight is read: they are made when the model is saved.

    Args:
        b: An empty graph, which knows how weights are stored.
        architecture: Sizes.
        kv: How keys and values are stored.
        tied: Whether the output head is the embedding.
    """
    input_ids = _input("input_ids", ir.DataType.INT64, ["batch_size", "sequence_length"])
    mask = _input("attention_mask", ir.DataType.INT64, ["batch_size", "total_sequence_length"])
    num_logits = b.tape.initializer(ir.tensor(np.array([ALL_ROWS], np.int64), name="num_logits"))
    pasts = [_cache(architecture, kv.dtype, f"past_key_values.{i}", "past") for i in range(architecture.num_layers)]

    shared = attention_inputs(b, architecture, mask)
    residual = b.head.embed(b, input_ids, EMBEDDING, "/embed_tokens")
    presents: list[ir.Value] = []
    update: ir.Value | None = None
    for layer, past in enumerate(pasts):
        weights = f"model.layers.{layer}"
        normed, residual = _add_and_norm(b, architecture, residual, update, f"{weights}.input_layernorm.weight")
        update, present = attention(b, architecture, layer, normed, shared, past, kv)
        presents += _named_cache(architecture, kv.dtype, f"present.{layer}", present)
        weight = f"{weights}.post_attention_layernorm.weight"
        normed, residual = _add_and_norm(b, architecture, residual, update, weight)
        update = mlp(b, layer, normed)

    hidden = b.op("Add", [residual, update], "/norm/Add")
    # Only the rows that were asked for meet the vocabulary: a prefill wants one of them.
    start = b.op("Neg", [num_logits], "/lm_head/Neg")
    hidden = b.op("Slice", [hidden, start, b.integers(_END), b.integers(1)], "/lm_head/Slice")
    hidden = b.rms_norm(hidden, "model.norm.weight", architecture.rms_norm_eps, "/norm")
    logits = b.head.linear(b, hidden, EMBEDDING if tied else LM_HEAD, "/lm_head")
    if b.computed != ir.DataType.FLOAT:
        logits = b.op("Cast", [logits], "/lm_head/Cast", to=ir.DataType.FLOAT)
    _describe(logits, "logits", ir.DataType.FLOAT, ["batch_size", "num_rows", architecture.vocab_size])

    inputs = [input_ids, mask, *(half for past in pasts for half in past), num_logits]
    graph = ir.Graph(
        inputs,
        [logits, *presents],
        nodes=b.tape.nodes,
        initializers=b.tape.initializers,
        opset_imports={"": OPSET, CONTRIB: 1},
        name="decoder",
    )
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="rubricrm")


def _add_and_norm(
    b: DecoderBuilder, architecture: Architecture, residual: ir.Value, update: ir.Value | None, weight: str
) -> tuple[ir.Value, ir.Value]:
    """Add a part's output to the residual stream and normalize the sum, in one operator; return both."""
    name = "/" + weight.removeprefix("model.").removesuffix(".weight")
    if update is None:
        return b.rms_norm(residual, weight, architecture.rms_norm_eps, name), residual
    normed, _, _, total = b.tape.op_multi_out(
        "SkipSimplifiedLayerNormalization",
        [residual, update, b.norm_weight(weight)],
        {"epsilon": architecture.rms_norm_eps},
        domain=CONTRIB,
        num_outputs=4,
        name=f"{name}/SkipNorm",
    )
    normed.name, total.name = f"{name}/output", f"{name}/residual"
    return normed, total


def _input(name: str, dtype: ir.DataType, shape: list[str | int]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def _cache_shape(architecture: Architecture, length: str) -> list[str | int]:
    return ["batch_size", architecture.num_kv_heads, f"{length}_sequence_length", architecture.head_dim]


def _cache(architecture: Architecture, kv: ir.DataType, name: str, length: str) -> list[ir.Value]:
    return [_input(f"{name}.{half}", kv, _cache_shape(architecture, length)) for half in ("key", "value")]


def _named_cache(architecture: Architecture, kv: ir.DataType, name: str, values: list[ir.Value]) -> list[ir.Value]:
    for half, value in zip(("key", "value"), values, strict=True):
        _describe(value, f"{name}.{half}", kv, _cache_shape(architecture, "total"))
    return values


def _describe(value: ir.Value, name: str, dtype: ir.DataType, shape: list[str | int]) -> None:
    value.name, value.type, value.shape = name, ir.TensorType(dtype), ir.Shape(shape)
