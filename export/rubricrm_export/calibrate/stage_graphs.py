"""The stages of a decoder layer as float32 ONNX graphs whose weights are inputs. Each function returns a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rubricrm_export.calibrate.layer_tensors import K_NORM, K_PROJ, Q_NORM, Q_PROJ, V_PROJ
from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.graph.builder import CONTRIB
from rubricrm_export.graph.decoder import IR_VERSION
from rubricrm_export.graph.onnxruntime_form import OPSET
from rubricrm_export.graph.rotary import rotary_tables


def norm_stage(architecture: Architecture) -> bytes:
    """Return x [rows, width] normalized and scaled by gain [width]."""
    x, gain = _float("x", ["rows", "width"]), _float("gain", ["width"])
    tape = ir.tape.Tape()
    y = tape.op("RMSNormalization", [x, gain], {"axis": -1, "epsilon": architecture.rms_norm_eps})
    return _graph(tape, [x, gain], [y])


def projection_stage() -> bytes:
    """Return residual + x @ weight.T, with x [rows, in] and weight [out, in]."""
    x, residual, weight = (
        _float("x", ["rows", "in"]),
        _float("residual", ["rows", "out"]),
        _float("weight", ["out", "in"]),
    )
    tape = ir.tape.Tape()
    return _graph(tape, [x, residual, weight], [tape.op("Add", [residual, _matmul(tape, x, weight)])])


def gate_stage() -> bytes:
    """Return silu(x @ gate.T) * (x @ up.T), with x [rows, in] and matrices [out, in]."""
    x, gate, up = _float("x", ["rows", "in"]), _float("gate", ["out", "in"]), _float("up", ["out", "in"])
    tape = ir.tape.Tape()
    gated = _matmul(tape, x, gate)
    silu = tape.op("Mul", [gated, tape.op("Sigmoid", [gated])])
    return _graph(tape, [x, gate, up], [tape.op("Mul", [silu, _matmul(tape, x, up)])])


def logits_stage() -> bytes:
    """Return x @ weight.T, with x [rows, in] and weight [out, in]."""
    x, weight = _float("x", ["rows", "in"]), _float("weight", ["out", "in"])
    tape = ir.tape.Tape()
    return _graph(tape, [x, weight], [_matmul(tape, x, weight)])


def attention_stage(architecture: Architecture, positions: int) -> bytes:
    """Queries, keys and values, their norms, rotation and attention, as in graph/attention.py."""
    x = _float("x", [1, "tokens", architecture.hidden_size])
    past = [
        _float(f"past_{part}", [1, architecture.num_kv_heads, "past", architecture.head_dim])
        for part in ("key", "value")
    ]
    last, total = _value("last", ir.DataType.INT32, [1]), _value("total", ir.DataType.INT32, [])
    inputs, tape, projected = [x], ir.tape.Tape(), []
    heads = (architecture.num_heads, architecture.num_kv_heads, architecture.num_kv_heads)
    for name, norm, count in zip((Q_PROJ, K_PROJ, V_PROJ), (Q_NORM, K_NORM, None), heads, strict=True):
        weight = _float(name, [count * architecture.head_dim, architecture.hidden_size])
        value = _matmul(tape, x, weight)
        inputs.append(weight)
        if norm is not None and architecture.qk_norm:
            gain = _float(norm, [architecture.head_dim])
            inputs.append(gain)
            value = _head_norm(tape, architecture, value, gain, count)
        projected.append(value)
    cos, sin = rotary_tables(replace(architecture, context_length=positions))
    tables = [_constant(tape, "cos", cos), _constant(tape, "sin", sin)]
    outputs = tape.op_multi_out(
        "GroupQueryAttention",
        [*projected, *past, last, total, *tables],
        {"num_heads": architecture.num_heads, "kv_num_heads": architecture.num_kv_heads, "do_rotary": 1},
        domain=CONTRIB,
        num_outputs=3,
    )
    return _graph(tape, [*inputs, *past, last, total], list(outputs))


def _head_norm(tape: ir.tape.Tape, architecture: Architecture, x: ir.Value, gain: ir.Value, heads: int) -> ir.Value:
    split = _constant(tape, f"split.{gain.name}", np.array([0, 0, heads, architecture.head_dim], np.int64))
    join = _constant(tape, f"join.{gain.name}", np.array([0, 0, heads * architecture.head_dim], np.int64))
    normed = tape.op(
        "RMSNormalization", [tape.op("Reshape", [x, split]), gain], {"axis": -1, "epsilon": architecture.rms_norm_eps}
    )
    return tape.op("Reshape", [normed, join])


def _matmul(tape: ir.tape.Tape, x: ir.Value, weight: ir.Value) -> ir.Value:
    return tape.op("FusedMatMul", [x, weight], {"transB": 1}, domain=CONTRIB)


def _value(name: str, dtype: ir.DataType, shape: list[Any]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def _float(name: str, shape: list[Any]) -> ir.Value:
    return _value(name, ir.DataType.FLOAT, shape)


def _constant(tape: ir.tape.Tape, name: str, array: NDArray[Any]) -> ir.Value:
    return tape.initializer(ir.tensor(array, name=name))


def _graph(tape: ir.tape.Tape, inputs: list[ir.Value], outputs: list[ir.Value]) -> bytes:
    for number, value in enumerate(outputs):
        value.name, value.type = f"output_{number}", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=tape.nodes,
        initializers=tape.initializers,
        opset_imports={"": OPSET, CONTRIB: 1},
        name="stage",
    )
    model = ir.Model(graph, ir_version=IR_VERSION, producer_name="rubricrm")
    return bytes(ir.serde.serialize_model(model).SerializeToString())
