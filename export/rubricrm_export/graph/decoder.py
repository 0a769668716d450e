"""The whole decoder: embedding, layers, final norm, head. Read from top to bottom, it is the model.

The names of inputs and outputs are those that other runtimes know (docs/BUNDLE.md).
"""

from __future__ import annotations

import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import EMBEDDING, LM_HEAD, Architecture
from rubricrm_export.graph.attention import attention
from rubricrm_export.graph.builder import DecoderBuilder
from rubricrm_export.graph.decoder_form import DecoderForm, describe, named_input
from rubricrm_export.graph.mlp import mlp
from rubricrm_export.graph.node_names import FINAL_NORM, HEAD, input_norm_name

IR_VERSION = 11


def build_decoder(b: DecoderBuilder, architecture: Architecture, form: DecoderForm, *, tied: bool) -> ir.Model:
    """Author the graph. No weight is read: they are made when the model is saved.

    Args:
        b: An empty graph, which knows how weights are stored.
        architecture: Sizes.
        form: The operators of the target.
        tied: Whether the output head is the embedding.
    """
    input_ids = named_input("input_ids", ir.DataType.INT64, form.token_axes)
    inputs = form.inputs(b)
    residual = b.head.embed(b, input_ids, EMBEDDING, "/embed_tokens")
    presents: list[ir.Value] = []
    update: ir.Value | None = None
    for layer in range(architecture.num_layers):
        weights = f"model.layers.{layer}"
        before, name = f"{weights}.input_layernorm.weight", input_norm_name(layer)
        if update is None:
            normed = form.rms_norm(b, residual, before, name)
        else:
            normed, residual = form.add_and_norm(b, residual, update, before, name)
        update, present = attention(b, form, layer, normed)
        presents += present
        between, name = f"{weights}.post_attention_layernorm.weight", f"/layers.{layer}.post_attention_layernorm"
        normed, residual = form.add_and_norm(b, residual, update, between, name)
        update = mlp(b, layer, normed)

    hidden = b.op("Add", [residual, update], f"{FINAL_NORM}/Add")
    # Only the rows that were asked for meet the vocabulary: a prefill wants one of them.
    hidden = form.rms_norm(b, form.wanted_rows(b, hidden), "model.norm.weight", FINAL_NORM)
    logits = b.head.linear(b, hidden, EMBEDDING if tied else LM_HEAD, HEAD)
    if b.computed != ir.DataType.FLOAT:
        logits = b.op("Cast", [logits], f"{HEAD}/Cast", to=ir.DataType.FLOAT)
    describe(logits, "logits", ir.DataType.FLOAT, [*form.row_axes, architecture.vocab_size])

    graph = ir.Graph(
        [input_ids, *inputs],
        [logits, *presents],
        nodes=b.tape.nodes,
        initializers=b.tape.initializers,
        opset_imports=dict(form.opset_imports),
        name="decoder",
    )
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="rubricrm")
