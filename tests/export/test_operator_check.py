"""Every quantized operator against dequantize and multiply, and those of a GPU against their schemas."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
from rubricrm.errors import ExportFailed
from rubricrm_export import operator_check
from rubricrm_export.graph.quantized_tensor import MatrixTensors
from rubricrm_export.onnx_export import OnnxExport, export_onnx
from rubricrm_export.operator_check import EXACT, check_operators, operator_errors
from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.scheme import ROWS, Scheme

MakeCheckpoint = Callable[..., Path]

SCHEMES = [
    Scheme.of("cpu", "bf16", weights=row.weights, activations=row.activations, block_size=block_size, **extra)
    for row in ROWS
    if row.target == "cpu"
    for block_size in row.block_sizes
    for extra in ([{}, {"symmetric": True}, {"head": "int8"}] if row.weights == "int4" else [{}])
]


@pytest.mark.parametrize(
    "scheme", SCHEMES, ids=lambda s: f"{s.weights}-{s.activations}-{s.block_size}-{s.symmetric}-{s.head}"
)
def test_operators_of_the_cpu(scheme: Scheme) -> None:
    errors = list(operator_errors(scheme))
    assert len(errors) >= 4
    check_operators(scheme)
    # More than one kernel: a single row of inputs, and several; inputs that a block divides, and does not.
    assert {error.num_rows for error in errors} >= set(operator_check._NUM_ROWS)
    assert len({error.in_features for error in errors}) >= 2


def test_floats_and_gpus_are_not_tried() -> None:
    check_operators(Scheme.of("cpu", "bf16"))
    assert not list(operator_errors(Scheme.of("cuda", "bf16", weights="fp8")))


@pytest.mark.parametrize("weights", ["int4", "int8", "fp8"])
def test_an_operator_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    def louder(self: MatrixTensors, dtype: Any, shape: Any) -> Any:
        tensor = original(self, dtype, shape)
        parts = tensor._parts
        tensor._parts = lambda: (part * np.asarray(1.1, part.dtype) for part in parts())
        tensor._func = None
        return _with_whole(tensor)

    def _with_whole(tensor: Any) -> Any:
        import onnx_ir as ir

        tensor._func = lambda: ir.tensor(np.concatenate(list(tensor._parts())), name=tensor.name)
        return tensor

    original = MatrixTensors.scales
    monkeypatch.setattr(MatrixTensors, "scales", louder)
    with pytest.raises(ExportFailed, match=r"relative error 0\.\d+ for 1 rows .* expected at most .*wrongly"):
        check_operators(Scheme.of("cpu", "bf16", weights=weights))


def test_a_result_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_check, "_relative", lambda *_: float("nan"))
    with pytest.raises(ExportFailed, match="relative error nan"):
        check_operators(Scheme.of("cpu", "bf16", weights="int8"))


def test_the_operators_see_what_is_stored() -> None:
    matrix = QuantizedMatrix(np.full((4, 32), 9, np.uint8), np.full((4, 1), 2, np.float32), None, 4, 32)
    assert matrix.dequantize().tolist() == [[2.0] * 32] * 4
    assert EXACT < operator_check.INT8 < operator_check.FP8


# --- what no CPU can run: the graph against the operators' own descriptions

SCHEMAS = {(schema.domain, schema.name): schema for schema in get_all_operator_schema()}
TYPES = {
    onnx.TensorProto.FLOAT: "tensor(float)",
    onnx.TensorProto.FLOAT16: "tensor(float16)",
    onnx.TensorProto.BFLOAT16: "tensor(bfloat16)",
    onnx.TensorProto.UINT8: "tensor(uint8)",
    onnx.TensorProto.INT8: "tensor(int8)",
    onnx.TensorProto.FLOAT8E4M3FN: "tensor(float8e4m3fn)",
    onnx.TensorProto.INT64: "tensor(int64)",
}


@pytest.mark.parametrize("float_weights", ["BF16", "F16"])
@pytest.mark.parametrize(
    "options",
    [
        {"weights": "fp8"},
        {"weights": "fp8", "block_size": "channel"},
        {"weights": "fp8", "activations": "fp8", "kv": "fp8"},
        {"weights": "int4", "kv": "int8"},
        {"weights": "int8", "kv": "int8-tensor", "head": "int4"},
        {"kv": "fp8"},
    ],
    ids=str,
)
def test_graphs_for_a_gpu_fit_the_schemas(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, float_weights: str, options: dict[str, Any]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("A text to calibrate on, which is long enough for one sequence. " * 20)
    job = OnnxExport(
        str(make_checkpoint(dtype=float_weights)),
        tmp_path / "bundle",
        device="cuda",
        calibration=str(text),
        eval_text=text,
        rubrics=False,
        **options,
    )
    bundle = export_onnx(job)
    graph = onnx.load(bundle.path / "model.onnx", load_external_data=False).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    types = {name: TYPES[tensor.data_type] for name, tensor in stored.items() if tensor.data_type in TYPES}
    types |= {value.name: TYPES[value.type.tensor_type.elem_type] for value in graph.input}
    computed = {"BF16": "tensor(bfloat16)", "F16": "tensor(float16)"}[float_weights]
    for node in (node for node in graph.node if node.domain == "com.microsoft"):
        schema = SCHEMAS[node.domain, node.op_type]
        assert schema.min_input <= len(node.input) <= schema.max_input
        assert {attribute.name for attribute in node.attribute} <= set(schema.attributes)
        allowed = {constraint.type_param_str: constraint.allowed_type_strs for constraint in schema.type_constraints}
        bound: dict[str, str] = {}
        for name, formal in zip(node.input, schema.inputs, strict=False):
            if not name:
                continue
            kind = types.get(name, computed)
            if formal.typeStr in allowed and formal.typeStr != "M":
                assert kind in allowed[formal.typeStr], (node.name, formal.name)
                assert bound.setdefault(formal.typeStr, kind) == kind, (node.name, formal.name)
    check_shapes({node.name: node for node in graph.node}, stored, options)


def check_shapes(nodes: dict[str, Any], stored: dict[str, Any], options: dict[str, Any]) -> None:
    """The tensors of one product and of attention, as docs/BUNDLE.md describes them."""
    down = nodes["/layers.0/mlp/down_proj/MatMul"]
    shapes = [tuple(stored[name].dims) for name in down.input[1:] if name in stored]
    if options.get("weights") == "fp8":
        assert down.op_type == "MatMulBlockQuantizedFp8Weight"
        assert shapes[:2] == [(48, 80), (48, 1)]
        assert shapes[2:] == ([()] if options.get("activations") == "fp8" else [])
    elif options.get("weights") == "int4":
        assert shapes == [(48, 1, 64), (48, 1), (48, 1)]
    elif options.get("weights") == "int8":
        assert shapes == [(48, 3, 32), (48, 3)]
    attention = nodes["/layers.0/attn/GroupQueryAttention"]
    scales = [tuple(stored[name].dims) for name in attention.input[12:14]]
    per_channel = options.get("kv") == "int8"
    assert scales == ([] if "kv" not in options else [(2, 1, 32)] * 2 if per_channel else [(1,)] * 2)
