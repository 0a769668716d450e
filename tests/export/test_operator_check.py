"""Operators: those of the CPU are tried before a bundle ships, those of a GPU match the runtime's schemas."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
from rubricrm_export.errors import ExportFailed
from rubricrm_export.graph.quantized_tensor import MatrixTensors
from rubricrm_export.measure import operator_check
from rubricrm_export.measure.operator_check import EXACT, FP8, INT8, OperatorError, check_operators, operator_errors
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from rubricrm_export.quantize.combinations import COMBINATIONS, Combination
from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.scheme import Scheme

pytestmark = pytest.mark.usefixtures("one_core")
MakeCheckpoint = Callable[..., Path]
Array = NDArray[Any]

CPU_ROWS = [(row, size) for row in COMBINATIONS if row.target == "cpu" for size in row.block_sizes]
OPERATORS = {
    ("int4", "none", False): "MatMulNBits",
    ("int8", "none", False): "MatMulNBits",
    ("int8", "none", True): "DequantizeLinear, FusedMatMul",
    ("int8", "int8", True): "Abs, ReduceMax, Mul, Max, Shape, Expand, QuantizeLinear, MatMulIntegerToFloat",
    ("fp8", "none", False): "DequantizeLinear, FusedMatMul",
    ("fp8", "none", True): "DequantizeLinear, FusedMatMul",
    ("fp8", "fp8", False): "DequantizeLinear, QuantizeLinear, FusedMatMul",
    ("fp8", "fp8", True): "DequantizeLinear, QuantizeLinear, FusedMatMul",
}


def scheme_of(row: Combination, size: str, **options: Any) -> Scheme:
    method = "rtn" if "rtn" in row.methods else None
    chosen = {"weights": row.weights, "activations": row.activations, "block_size": size, "method": method}
    return Scheme.of(row.target, "bf16", **(chosen | options))


# --- on the CPU


@pytest.mark.parametrize(("row", "size"), CPU_ROWS, ids=[f"{r.weights}-{r.activations}-{s}" for r, s in CPU_ROWS])
def test_every_operator_computes_what_it_should(row: Combination, size: str) -> None:
    scheme = scheme_of(row, size, head="model")
    errors = list(operator_errors(scheme))
    layers = [error for error in errors if error.operator == OPERATORS[row.weights, row.activations, size == "channel"]]
    width = 64 if size == "channel" else int(size)
    # Inputs that the block divides and does not, one row of them and several.
    asked = [(n, rows) for n in (4 * width, 2 * width + width // 2) for rows in (1, 7)]
    assert [(error.in_features, error.num_rows) for error in errors] == asked
    assert layers == errors
    assert all(error.relative <= error.tolerance for error in errors), errors
    check_operators(scheme)


@pytest.mark.parametrize("head", ["int8", "int4"])
def test_tables_give_their_rows(head: str) -> None:
    # The layers' operators come first.
    errors = list(operator_errors(Scheme.of("cpu", "bf16", weights="fp8", head=head)))[4:]
    assert [error.operator for error in errors[::3]] == ["MatMulNBits"] * 2
    tables = errors[2::3]
    assert {error.operator for error in tables} == {"GatherBlockQuantized", "GatherBlockQuantized, Slice"}
    assert {(error.in_features, error.tolerance) for error in tables} == {(128, EXACT), (80, EXACT)}
    assert all(error.relative <= error.tolerance for error in errors), errors


@pytest.mark.parametrize("size", ["32", "64", "128"])
def test_symmetric_four_bits(size: str) -> None:
    check_operators(Scheme.of("cpu", "bf16", weights="int4", block_size=size, symmetric=True))


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"weights": "int4"}, INT8),
        ({"weights": "int8", "block_size": "channel"}, EXACT),
        ({"weights": "int8", "activations": "int8"}, INT8),
        ({"weights": "fp8"}, EXACT),
        ({"weights": "fp8", "activations": "fp8"}, FP8),
    ],
    ids=str,
)
def test_tolerance_is_that_of_the_activations(options: dict[str, str], tolerance: float) -> None:
    scheme = Scheme.of("cpu", "bf16", head="model", **options)  # type: ignore[arg-type]
    errors = list(operator_errors(scheme))
    assert {error.tolerance for error in errors} == {tolerance}
    # It is not met by chance: rounded activations do lose.
    assert tolerance == EXACT or max(error.relative for error in errors) > tolerance / 20


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_float_weights_have_no_operators_to_try(target: str) -> None:
    assert list(operator_errors(Scheme.of(target, "bf16", kv="int8"))) == []


def test_operators_of_a_gpu_are_not_tried_here() -> None:
    assert list(operator_errors(Scheme.of("cuda", "bf16", weights="fp8", activations="fp8"))) == []


def wrong_scales(matrix: QuantizedMatrix) -> QuantizedMatrix:
    scales = matrix.scales.copy()
    scales[5] *= np.float32(2)
    return replace(matrix, scales=scales)


def wrong_codes(matrix: QuantizedMatrix) -> QuantizedMatrix:
    return replace(matrix, codes=np.roll(matrix.codes, 1, 1))


def reversed_blocks(matrix: QuantizedMatrix) -> QuantizedMatrix:
    return replace(matrix, scales=np.ascontiguousarray(matrix.scales[::-1]))


@pytest.mark.parametrize(
    ("row", "size", "damage"),
    [(row, size, damage) for row, size in CPU_ROWS for damage in (wrong_scales, wrong_codes, reversed_blocks)][::2],
    ids=lambda part: getattr(part, "__name__", None) or f"{getattr(part, 'weights', part)}",
)
def test_operator_that_is_wrong_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, row: Combination, size: str, damage: Callable[[QuantizedMatrix], QuantizedMatrix]
) -> None:
    def damaged(name: str, blocks: Callable[[], Iterator[QuantizedMatrix]], shape: tuple[int, int]) -> Any:
        return MatrixTensors(name, lambda: map(damage, blocks()), shape)

    monkeypatch.setattr(operator_check, "MatrixTensors", damaged)
    named = OPERATORS[row.weights, row.activations, size == "channel"]
    with pytest.raises(ExportFailed, match=rf"{named}: relative error \d.* [17] rows of \d+ inputs.*--block-size"):
        check_operators(scheme_of(row, size, head="model"))


def test_swapped_nibbles_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = QuantizedMatrix.blobs

    def swapped(matrix: QuantizedMatrix) -> Array:
        packed = blobs(matrix)
        return np.asarray(packed >> 4 | packed << 4, np.uint8)

    monkeypatch.setattr(QuantizedMatrix, "blobs", swapped)
    with pytest.raises(ExportFailed, match="MatMulNBits"):
        check_operators(Scheme.of("cpu", "bf16", weights="int4"))


def test_wrong_table_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_check._Sample, "linear_errors", lambda *_: iter(()))
    monkeypatch.setattr(operator_check, "EXACT", -1.0)
    with pytest.raises(ExportFailed, match="GatherBlockQuantized"):
        check_operators(Scheme.of("cpu", "bf16", weights="int8"))


def test_result_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = OperatorError("MatMulNBits", 64, 7, float("nan"), INT8)
    monkeypatch.setattr(operator_check, "operator_errors", lambda _: iter([found]))
    with pytest.raises(ExportFailed, match="MatMulNBits: relative error nan for 7 rows of 64 inputs, expected at most"):
        check_operators(Scheme.of("cpu", "bf16", weights="int4"))


def test_wrong_operator_leaves_no_bundle(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = OperatorError("MatMulNBits", 64, 7, 0.5, INT8)
    monkeypatch.setattr(operator_check, "operator_errors", lambda _: iter([found]))
    checkpoint = make_checkpoint()
    with pytest.raises(ExportFailed, match="MatMulNBits"):
        export_onnx(OnnxExport(str(checkpoint), tmp_path / "bundle", weights="int4"))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


# --- on a GPU: what the runtime's own schemas say


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    return {schema.name: schema for schema in get_all_operator_schema() if schema.domain == "com.microsoft"}


TYPES: dict[int, str] = {
    TensorProto.FLOAT: "tensor(float)",
    TensorProto.FLOAT16: "tensor(float16)",
    TensorProto.BFLOAT16: "tensor(bfloat16)",
    TensorProto.FLOAT8E4M3FN: "tensor(float8e4m3fn)",
    TensorProto.INT8: "tensor(int8)",
    TensorProto.UINT8: "tensor(uint8)",
    TensorProto.INT32: "tensor(int32)",
    TensorProto.INT64: "tensor(int64)",
}


class CudaGraph:
    """The graph that an export for a GPU writes."""

    def __init__(self, bundle: Path) -> None:
        self.graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.caches = {value.name: value.type.tensor_type.elem_type for value in self.graph.input}
        self.computed = self.initializers["model.norm.weight"].data_type

    def nodes(self, op_type: str) -> list[onnx.NodeProto]:
        return [node for node in self.graph.node if node.op_type == op_type]

    def kind(self, value: str) -> int:
        """Element type of a node's input; activations have the computed one."""
        if value in self.initializers:
            return int(self.initializers[value].data_type)
        if value in self.caches:
            return int(self.caches[value])
        is_length = value.startswith("/mask/")
        return int(TensorProto.INT32 if is_length else self.computed)

    def shape(self, value: str) -> list[int]:
        return list(self.initializers[value].dims)

    def check(self, schema: Any) -> list[onnx.NodeProto]:
        """Return the nodes of an operator, each checked against its schema."""
        nodes = self.nodes(schema.name)
        assert nodes
        for node in nodes:
            assert node.domain == "com.microsoft"
            assert schema.min_input <= len(node.input) <= schema.max_input
            assert schema.min_output <= len(node.output) <= schema.max_output
            variables: dict[str, int] = {}
            for value, declared in zip(node.input, schema.inputs, strict=False):
                if not value:
                    assert "Optional" in str(declared.option), (node.name, declared.name)
                    continue
                assert TYPES[self.kind(value)] in declared.types, (node.name, declared.name)
                # One letter stands for one type in all of a node.
                assert variables.setdefault(declared.typeStr, self.kind(value)) == self.kind(value), declared.name
            given = {attribute.name: attribute for attribute in node.attribute}
            assert given.keys() <= schema.attributes.keys()
            assert {name for name, declared in schema.attributes.items() if declared.required} <= given.keys()
            for name, attribute in given.items():
                kind = onnx.AttributeProto.AttributeType.Name(attribute.type)
                assert schema.attributes[name].type.name == kind, (node.name, name)
        return nodes


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


@pytest.fixture
def export_cuda(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> Callable[..., CudaGraph]:
    """A function that exports for a GPU from a checkpoint of some float type."""

    def make(dtype: str = "BF16", **options: Any) -> CudaGraph:
        checkpoint = make_checkpoint(dtype=dtype)
        (tmp_path / "text.txt").write_text("Words to calibrate and to measure on. " * 15)
        texts: dict[str, Any] = {"calibration": str(tmp_path / "text.txt"), "eval_text": tmp_path / "text.txt"}
        job = OnnxExport(str(checkpoint), tmp_path / "bundle", target="cuda", rubrics=False, **texts, **options)
        return CudaGraph(export_onnx(job).path)

    return make


WIDTHS = {"q": 48, "k": 48, "v": 48, "qkv": 48, "o": 128, "gate": 48, "up": 48, "down": 80}
HEIGHTS = {"q": 128, "k": 64, "v": 64, "qkv": 256, "o": 48, "gate": 80, "up": 80, "down": 48}


def part_of(node: onnx.NodeProto) -> str:
    return str(node.name.split("/")[-2].removesuffix("_proj"))


@pytest.mark.parametrize(
    ("activations", "size", "dtype"),
    [("none", "128", "BF16"), ("none", "channel", "F32"), ("fp8", "128", "F16"), ("fp8", "channel", "BF16")],
)
def test_fp8_products_of_a_gpu(
    export_cuda: Callable[..., CudaGraph], schemas: dict[str, Any], activations: str, size: str, dtype: str
) -> None:
    exported = export_cuda(dtype, weights="fp8", activations=activations, block_size=size)
    assert exported.computed == (TensorProto.BFLOAT16 if dtype == "BF16" else TensorProto.FLOAT16)
    nodes = exported.check(schemas["MatMulBlockQuantizedFp8Weight"])
    assert len(nodes) == 14
    for node in nodes:
        width, height = WIDTHS[part_of(node)], HEIGHTS[part_of(node)]
        block = width if size == "channel" else 128
        assert attributes(node) == {"block_size": block}
        assert exported.shape(node.input[1]) == [height, width]
        assert exported.shape(node.input[2]) == [height, -(-width // block)]
        assert len(node.input) == (3 if activations == "none" else 4)
        assert activations == "none" or exported.shape(node.input[3]) == []
    # The head and the norms stay floats of the computed type.
    assert len(exported.nodes("FusedMatMul")) == 1
    assert exported.kind("model.embed_tokens.weight") == exported.computed


@pytest.mark.parametrize(("weights", "dtype"), [("int4", "BF16"), ("int4", "F32"), ("int8", "F16")])
def test_integer_products_and_tables_of_a_gpu(
    export_cuda: Callable[..., CudaGraph], schemas: dict[str, Any], weights: str, dtype: str
) -> None:
    exported = export_cuda(dtype, weights=weights, block_size="64")
    bits = 4 if weights == "int4" else 8
    *nodes, head = exported.check(schemas["MatMulNBits"])
    assert len(nodes) == 10  # queries, keys and values of a layer are one product
    for node, width, height, block in [
        *((node, WIDTHS[part_of(node)], HEIGHTS[part_of(node)], 64) for node in nodes),
        (head, 48, 272, 32),
    ]:
        given = attributes(node)
        blocks = -(-width // block)
        assert (given["K"], given["N"], given["bits"], given["block_size"]) == (width, height, bits, block)
        assert exported.shape(node.input[1]) == [height, blocks, block * bits // 8]
        assert exported.shape(node.input[2]) == [height, blocks]
        assert len(node.input) == (4 if weights == "int4" else 3)
        assert weights == "int8" or exported.shape(node.input[3]) == [height, (blocks + 1) // 2]
    (table,) = exported.check(schemas["GatherBlockQuantized"])
    assert attributes(table) == {"bits": bits, "block_size": 32, "gather_axis": 0, "quantize_axis": 1}
    assert exported.shape(table.input[0]) == [272, 64 * bits // 8]
    # A tied head reads the table's own scales and zero points.
    assert [*table.input[2:]] == [*head.input[2:]]


@pytest.mark.parametrize(
    ("weights", "kv", "cache", "mode", "shape"),
    [
        ("bf16", "int8", TensorProto.INT8, "PER_CHANNEL", [2, 1, 32]),
        ("int4", "int8-tensor", TensorProto.INT8, "PER_TENSOR", [1]),
        ("bf16", "fp8", TensorProto.FLOAT8E4M3FN, "PER_TENSOR", [1]),
        ("fp8", "fp8", TensorProto.FLOAT8E4M3FN, "PER_TENSOR", [1]),
    ],
)
def test_narrow_caches_of_a_gpu(
    export_cuda: Callable[..., CudaGraph],
    schemas: dict[str, Any],
    kv: str,
    cache: int,
    mode: str,
    shape: list[int],
    weights: str,
) -> None:
    exported = export_cuda(weights=weights, kv=kv)
    nodes = exported.check(schemas["GroupQueryAttention"])
    assert len(nodes) == 2
    for layer, node in enumerate(nodes):
        names = [declared.name for declared in schemas["GroupQueryAttention"].inputs]
        inputs = dict(zip(names, node.input, strict=False))
        given = attributes(node)
        assert (given["k_quant_type"], given["v_quant_type"], given["kv_cache_bit_width"]) == (mode, mode, 8)
        assert (given["num_heads"], given["kv_num_heads"], given["do_rotary"]) == (4, 2, 1)
        assert inputs["past_key"] == f"past_key_values.{layer}.key"
        assert exported.kind(inputs["past_key"]) == exported.kind(inputs["past_value"]) == cache
        assert [inputs[name] for name in ("position_ids", "attention_bias", "head_sink")] == ["", "", ""]
        for name in ("k_scale", "v_scale"):
            # Broadcasts over a cache [batch, kv_heads, positions, head_dim].
            assert exported.shape(inputs[name]) == shape
            np.broadcast_shapes(tuple(shape), (1, 2, 9, 32))
            scales = onnx.numpy_helper.to_array(exported.initializers[inputs[name]])
            assert (scales > 0).all()
    kinds = {value.name: value.type.tensor_type.elem_type for value in exported.graph.output}
    assert {kind for name, kind in kinds.items() if name.startswith("present.")} == {cache}


def test_wide_cache_of_a_gpu_has_no_scales(export_cuda: Callable[..., CudaGraph], schemas: dict[str, Any]) -> None:
    exported = export_cuda(weights="bf16")
    for node in exported.check(schemas["GroupQueryAttention"]):
        assert len(node.input) == 9
        assert attributes(node).keys() == {"num_heads", "kv_num_heads", "do_rotary"}
