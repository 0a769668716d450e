"""The stages of a decoder layer as float32 ONNX graphs, cut where calibration looks. Each function returns a model.

They are authored by `graph/`, as the graph of a bundle is, with a storage whose weights are inputs: they are called as
within a layer, and come with each run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.graph.builder import CONTRIB, GraphBuilder, LayerBuilder, MatrixStorage
from rubricrm_export.graph.decoder import IR_VERSION
from rubricrm_export.graph.decoder_form import named_input
from rubricrm_export.graph.kv_storage import KVStorage
from rubricrm_export.graph.mlp import gated
from rubricrm_export.graph.node_names import product_node
from rubricrm_export.graph.onnxruntime_form import OPSET, OnnxRuntimeForm


class InputStorage(MatrixStorage):
    """Weights that are inputs of the graph, called as within a layer: "mlp.up_proj.weight".

    Attributes:
        inputs: Those that were asked for.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, ir.Value] = {}

    def linear(self, b: GraphBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """Multiply by an input [out_features, in_features], transposed."""
        matrix = self.input(weight, 2)
        return b.op("FusedMatMul", [x, matrix], product_node(name), domain=CONTRIB, transB=1)

    def input(self, weight: str, rank: int) -> ir.Value:
        """Return the input for a weight."""
        name = weight.removeprefix("model.layers.0.")
        shape = [f"{name}.{axis}" for axis in range(rank)]
        return self.inputs.setdefault(name, named_input(name, ir.DataType.FLOAT, shape))


def norm_stage(architecture: Architecture) -> bytes:
    """Return x [rows, width] normalized and scaled by "gain" [width]."""
    x, (b, weights) = _rows(), _builder()
    return _model(b, [x, weights.input("gain", 1)], [_form(architecture).rms_norm(b, x, "gain", "/norm")])


def projection_stage() -> bytes:
    """Return "residual" + x @ "weight".T, with x [rows, in] and the weight [out, in]."""
    x, (b, weights) = _rows(), _builder()
    residual = named_input("residual", ir.DataType.FLOAT, ["rows", "out"])
    total = b.op("Add", [residual, weights.linear(b, x, "weight", "/project")], "/project/Add")
    return _model(b, [x, residual, *weights.inputs.values()], [total])


def gate_stage() -> bytes:
    """Return silu(x @ gate.T) * (x @ up.T), with x [rows, in] and matrices [out, in]."""
    x, (b, weights) = _rows(), _builder()
    output = gated(b, 0, x)
    return _model(b, [x, *weights.inputs.values()], [output])


def logits_stage() -> bytes:
    """Return x @ "weight".T, with x [rows, in] and the weight [out, in]."""
    x, (b, weights) = _rows(), _builder()
    return _model(b, [x, weights.input("weight", 2)], [weights.linear(b, x, "weight", "/logits")])


def attention_stage(architecture: Architecture, positions: int) -> bytes:
    """Return what the output projection multiplies, and the present keys and values, for x [1, tokens, hidden_size].

    The other inputs are those of a bundle with one layer: "attention_mask" and the past keys and values.
    """
    x, (b, weights) = named_input("x", ir.DataType.FLOAT, [1, "tokens", architecture.hidden_size]), _builder()
    one = replace(architecture, num_layers=1, context_length=positions)
    form = _form(one)
    *inputs, _ = form.inputs(b)  # the last one says which logits are wanted
    output, present = form.attend(b, 0, x)
    return _model(b, [x, *inputs, *weights.inputs.values()], [output, *present])


def _builder() -> tuple[LayerBuilder, InputStorage]:
    weights = InputStorage()
    return LayerBuilder(ir.DataType.FLOAT, weights, lambda name: weights.input(name, 1)), weights


def _form(architecture: Architecture) -> OnnxRuntimeForm:
    return OnnxRuntimeForm(architecture, KVStorage(ir.DataType.FLOAT))


def _rows() -> ir.Value:
    return named_input("x", ir.DataType.FLOAT, ["rows", "in"])


def _model(b: LayerBuilder, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> bytes:
    for value in outputs:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=b.tape.nodes,
        initializers=[value for value in b.tape.initializers if value.uses()],
        opset_imports={"": OPSET, CONTRIB: 1},
        name="stage",
    )
    model = ir.Model(graph, ir_version=IR_VERSION, producer_name="rubricrm")
    return bytes(ir.serde.serialize_model(model).SerializeToString())
