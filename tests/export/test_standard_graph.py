"""Bundles for TensorRT: standard ONNX alone, in its forms, and the numbers of the model that was exported."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from rubricrm.errors import OptionInvalid, PromptTooLong, RuntimeMissing
from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.providers import provider_options
from rubricrm.runtime.session import Session
from safetensors.numpy import load_file
from short_texts import IDS

pytestmark = pytest.mark.usefixtures("one_core")
MakeCheckpoint = Callable[..., Path]
Export = Callable[..., Bundle]
Array = NDArray[Any]

QWEN, LLAMA = "Qwen3ForCausalLM", "LlamaForCausalLM"
SIZES = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
QUANTIZED: list[dict[str, Any]] = [
    {"weights": "int4", "block_size": "32"},
    {"weights": "int4", "block_size": "64", "method": "gptq"},
    {"weights": "int4", "block_size": "32", "method": "awq"},
    {"weights": "int8", "activations": "int8"},
    {"weights": "int8", "activations": "int8", "method": "rtn"},
    {"weights": "fp8", "activations": "fp8"},
]


@pytest.fixture
def export(export: Export) -> Export:
    """A function that exports a checkpoint for TensorRT."""
    return partial(export, target="tensorrt")


def logits(bundle: Bundle, ids: list[int], chunks: tuple[int, ...] = ()) -> Array:
    """All rows of logits, the tokens given at once or in chunks."""
    session = Session(bundle, device="cpu", threads=1)
    slot = session.new_slot(len(ids))
    rows, start = [], 0
    for count in chunks or (len(ids),):
        rows.append(session.run(slot, ids[start : start + count], rows=count))
        start += count
    session.close()
    return np.concatenate(rows)


def distance(got: Array, expected: Array) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


# --- what it computes


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", [QWEN, LLAMA])
def test_float_logits_are_those_of_the_graph_for_the_cpu(
    make_checkpoint: MakeCheckpoint, export: Export, architecture: str, tied: bool
) -> None:
    checkpoint = make_checkpoint(architecture, tie_word_embeddings=tied, dtype="F32")
    expected = logits(export(checkpoint, "cpu", target="cpu"), IDS)
    found = export(checkpoint, weights="fp32")
    assert np.abs(logits(found, IDS) - expected).max() <= 2e-5
    assert np.abs(logits(found, IDS, (7, 1, 1, 31, 20)) - expected).max() <= 2e-5
    assert distance(logits(export(checkpoint, "half"), IDS), expected) <= 5e-3


def test_what_lies_in_the_buffer_behind_the_sequence_is_not_seen(
    make_checkpoint: MakeCheckpoint, export: Export
) -> None:
    bundle = export(make_checkpoint(), weights="fp32")
    session = Session(bundle, device="cpu", threads=1)
    slot = session.new_slot(10)
    session.run(slot, IDS)
    slot.cache.rewind(5)
    found = session.run(slot, IDS[30:40], rows=3)
    assert np.abs(found - logits(bundle, [*IDS[:5], *IDS[30:40]])[-3:]).max() <= 2e-5
    kept = slot.cache.positions(9)
    slot.cache.rewind(0)
    slot.cache.restore(kept, 9)
    found = session.run(slot, IDS[34:40], rows=1)
    assert np.abs(found - logits(bundle, [*IDS[:5], *IDS[30:40]])[-1:]).max() <= 2e-5
    session.close()


def test_squares_beyond_what_fp16_holds(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    def enlarge(tensors: dict[str, Array]) -> None:
        tensors["model.embed_tokens.weight"] = (tensors["model.embed_tokens.weight"] * 3000).astype(np.float32)

    checkpoint = make_checkpoint(LLAMA, dtype="F32", change=enlarge)
    found = logits(export(checkpoint), IDS)
    assert np.isfinite(found).all()
    assert distance(found, logits(export(checkpoint, "exact", weights="fp32"), IDS)) <= 2e-2


@pytest.mark.parametrize("architecture", [QWEN, LLAMA])
@pytest.mark.parametrize("options", QUANTIZED, ids=str)
def test_quantized_logits_are_those_of_what_is_stored(
    make_checkpoint: MakeCheckpoint, export: Export, architecture: str, options: dict[str, Any]
) -> None:
    checkpoint = make_checkpoint(architecture, dtype="F32", num_hidden_layers=1, **SIZES)
    bundle = export(checkpoint, **options)
    stored = Stored(bundle)
    matrices = stored.matrices()
    assert len(matrices) == 7

    def change(tensors: dict[str, Array]) -> None:
        for name, tensor in (matrices | stored.norms()).items():
            assert tensors[name].shape == tensor.shape
            tensors[name] = np.ascontiguousarray(tensor, np.float32)

    replaced = make_checkpoint(architecture, dtype="F32", num_hidden_layers=1, name="replaced", change=change, **SIZES)
    expected = logits(export(replaced, "float", weights="fp32"), IDS)
    # The runtime of the CPU rounds the inputs of INT4 products too; for the others the graph says so.
    assert distance(logits(bundle, IDS), expected) <= {"int4": 0.05, "int8": 0.05, "fp8": 0.2}[options["weights"]]
    original = load_file(checkpoint / "model.safetensors")
    limit = {"int4": 0.2, "int8": 0.02, "fp8": 0.05}[options["weights"]]
    if options.get("method", "smoothquant" if options["weights"] == "int8" else "rtn") == "rtn":
        assert all(0 < distance(matrix, original[name]) <= limit for name, matrix in matrices.items())
    quality = bundle.manifest.quality
    assert quality is not None
    assert quality["kl"] > 0


# --- what is stored


class Stored:
    """The matrices of a bundle as its DequantizeLinear nodes say, and what stands around these."""

    def __init__(self, bundle: Bundle) -> None:
        self.graph = onnx.load(bundle.path / "model.onnx").graph
        self.tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}

    def weight_nodes(self) -> list[onnx.NodeProto]:
        return [n for n in self.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in self.tensors]

    def matrices(self) -> dict[str, Array]:
        matrices = {}
        for node in self.weight_nodes():
            given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
            codes, scales = (self.tensors[name].astype(np.float32) for name in node.input[:2])
            if "block_size" in given:
                assert given["axis"] == 0
                scales = np.repeat(scales, given["block_size"], 0)
            else:
                assert given == {"axis": 1}
            matrices[node.input[0].removesuffix(".codes")] = (codes * scales).T
        return matrices

    def norms(self) -> dict[str, Array]:
        return {name: tensor for name, tensor in self.tensors.items() if name.endswith("norm.weight")}


@pytest.mark.parametrize("options", [{}, *QUANTIZED], ids=str)
def test_the_graph_is_standard_onnx(make_checkpoint: MakeCheckpoint, export: Export, options: dict[str, Any]) -> None:
    bundle = export(make_checkpoint(num_hidden_layers=1, **SIZES), **options)
    model = onnx.load(bundle.path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 24)]
    assert {node.domain for node in model.graph.node} == {""}
    attention = [node for node in model.graph.node if node.op_type == "Attention"]
    assert [len(node.output) for node in attention] == [1]
    graph = bundle.manifest.graph
    assert (graph.target, graph.kv_update, graph.compute_type, graph.kv_type) == (
        "tensorrt",
        "scatter",
        "float16",
        "float16",
    )
    assert not (bundle.path / "genai_config.json").exists()


@pytest.mark.parametrize("options", QUANTIZED, ids=str)
def test_quantization_has_tensorrts_forms(
    make_checkpoint: MakeCheckpoint, export: Export, options: dict[str, Any]
) -> None:
    stored = Stored(export(make_checkpoint(num_hidden_layers=1, **SIZES), **options))
    types = {"int4": ml_dtypes.int4, "int8": np.int8, "fp8": ml_dtypes.float8_e4m3fn}
    readers = {name: node for node in stored.graph.node for name in node.input}
    for node in stored.weight_nodes():
        codes, scales, *zeros = (stored.tensors[name] for name in node.input)
        assert codes.dtype == types[options["weights"]]
        assert scales.dtype == np.float16
        assert readers[node.output[0]].op_type == "MatMul"
        if options["weights"] == "int8":
            assert codes.min() >= -127
            assert zeros[0].dtype == np.int8
            assert zeros[0].tolist() == [0] * len(scales)
        else:
            assert not zeros
    rounded = [node for node in stored.graph.node if node.op_type == "QuantizeLinear"]
    # q, k and v share one, as gate and up do.
    assert len(rounded) == (0 if options["weights"] == "int4" else 4)
    for node in rounded:
        scale, zero = (stored.tensors[name] for name in node.input[1:])
        assert (scale.shape, scale.dtype, zero.shape) == ((), np.float16, ())
        assert zero.dtype == types[options["weights"]]
        assert float(zero) == 0
        assert readers[node.output[0]].op_type == "DequantizeLinear"


def test_a_cache_is_a_network_input_and_output_of_fixed_length(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    """As TensorRT's KVCacheUpdate wants it."""
    graph = onnx.load(export(make_checkpoint(num_hidden_layers=1), context_length=640).path / "model.onnx").graph
    scatters = [node for node in graph.node if node.op_type == "TensorScatter"]
    assert len(scatters) == 2
    inputs, outputs = ({value.name: value for value in values} for values in (graph.input, graph.output))
    for node in scatters:
        for value in (inputs[node.input[0]], outputs[node.output[0]]):
            assert [d.dim_value for d in value.type.tensor_type.shape.dim][1:] == [2, 640, 32]
        assert node.input[2] == "write_indices"
        assert [(a.name, a.i) for a in node.attribute] == [("axis", 2)]


# --- options


def test_the_context_is_the_buffers_length(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    checkpoint = make_checkpoint(max_position_embeddings=4096)
    assert export(checkpoint).manifest.model.context_length == 2048
    bundle = export(checkpoint, "short", context_length=300)
    assert bundle.manifest.model.context_length == 300
    assert "--context-length 300" in bundle.manifest.provenance.command
    with RubricModel.open(bundle.path, device="cpu") as model:
        assert len(model.generate("Explain rainbows.", max_new_tokens=20).text) > 0
        with pytest.raises(PromptTooLong, match="the context 300"):
            model.generate("rainbow " * 60)
    assert (
        export(make_checkpoint(name="small", max_position_embeddings=400), "of_model").manifest.model.context_length
        == 400
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "int8"}, "--activations none cannot be run by --target tensorrt, which has:\n.*int8.*channel"),
        ({"weights": "fp8"}, "--activations none cannot be run by --target tensorrt"),
        ({"weights": "int4", "symmetric": False}, "--asymmetric cannot be run by --target tensorrt, which has no zero"),
        ({"weights": "int4", "kv": "int8"}, "--kv int8 cannot be run by --target tensorrt, which has: model"),
        ({"weights": "int4", "head": "int8"}, "--head int8 cannot be run by --target tensorrt, which has: model"),
        ({"weights": "int4", "block_size": "64"}, "q_proj.weight: has 48 inputs, .* do not divide.*--target"),
        ({"weights": "int4", "block_size": "32"}, "q_proj.weight: has 48 inputs, .*Pass --weights fp8"),
        ({"target": "cpu", "context_length": 9}, "--context-length has no meaning with --target cpu"),
        ({"context_length": 0}, "context-length must be at least 1, got 0"),
    ],
    ids=str,
)
def test_bad_combinations(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    checkpoint = make_checkpoint()
    with pytest.raises(OptionInvalid, match=f"(?s){message}"):
        export(checkpoint, **options)
    assert not (tmp_path / "bundle").exists()


def test_blocks_that_fit_are_named(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    checkpoint = make_checkpoint(hidden_size=64, intermediate_size=128)
    with pytest.raises(
        OptionInvalid, match="q_proj.weight: has 64 inputs, which blocks of 128 do not.*--block-size 64"
    ):
        export(checkpoint, weights="int4")


# --- devices


@pytest.mark.parametrize(
    ("device", "provider"),
    [(None, "TensorrtExecutionProvider"), ("tensorrt-rtx", "NvTensorRTRTXExecutionProvider")],
)
def test_a_machine_without_the_provider(
    make_checkpoint: MakeCheckpoint, export: Export, device: str | None, provider: str
) -> None:
    bundle = export(make_checkpoint())
    with pytest.raises(RuntimeMissing, match=f"device {device or 'tensorrt'} cannot be used: .*{provider}"):
        RubricModel.open(bundle.path, device=device)
    with pytest.raises(OptionInvalid, match="was exported for tensorrt, cannot run on cuda. Export with --target cuda"):
        RubricModel.open(bundle.path, device="cuda")


@pytest.mark.parametrize(("device", "prefix"), [("tensorrt", "trt"), ("tensorrt-rtx", "nv")])
def test_a_profile_covers_every_input(
    make_checkpoint: MakeCheckpoint, export: Export, device: str, prefix: str
) -> None:
    bundle = export(make_checkpoint())
    options = provider_options(device, bundle, 256, "key")
    graph = onnx.load(bundle.path / "model.onnx", load_external_data=False).graph
    for kind, count in (("min", 1), ("opt", 1), ("max", 256)):
        entries = dict(entry.split(":") for entry in options[f"{prefix}_profile_{kind}_shapes"].split(","))
        assert set(entries) == {value.name for value in graph.input}
        for value in graph.input:
            shape = [int(size) for size in entries[value.name].split("x")]
            names = {"batch_size": 1, "sequence_length": count, "num_rows": count}
            dims = value.type.tensor_type.shape.dim
            assert shape == [names[d.dim_param] if d.dim_param else d.dim_value for d in dims]
    assert provider_options("cpu", bundle, 256, "key") == {}
