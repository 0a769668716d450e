"""Quantized bundles end to end: what is stored, what it computes, what it lost, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from rubricrm.errors import OptionInvalid, RubricrmError
from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import Session
from rubricrm_export.calibrate.token_text import TokenText
from rubricrm_export.errors import CheckpointInvalid, QualityTooLow
from safetensors.numpy import load_file
from short_texts import EVALUATION, IDS
from standard_bundle import standard_only

pytestmark = pytest.mark.usefixtures("one_core")
MakeCheckpoint = Callable[..., Path]
Export = Callable[..., Bundle]
Array = NDArray[Any]
Tensors = dict[str, Array]

QWEN, LLAMA = "Qwen3ForCausalLM", "LlamaForCausalLM"


def odd_checkpoint(make: MakeCheckpoint, architecture: str, *, tied: bool, **options: Any) -> Path:
    """A checkpoint in float32 whose widths no block divides."""
    widths = {"hidden_size": 48, "intermediate_size": 80, "head_dim": 32}
    return make(architecture, dtype="F32", tie_word_embeddings=tied, **(widths | options))


# --- what is stored, read without the code under test


class Stored:
    """The matrices of a bundle, dequantized from the bytes of its data file."""

    def __init__(self, bundle: Bundle) -> None:
        model = onnx.load(bundle.path / "model.onnx")
        self.model = model
        self.tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def matrices(self) -> Tensors:
        found = {
            name.removesuffix(".codes"): self._matrix(node)
            for node in self.model.graph.node
            for name in node.input
            if name.endswith("weight.codes")
        }
        # Queries, keys and values may be rows of one matrix.
        for node in self.model.graph.node:
            if node.op_type == "Split":
                joined = (
                    f"model{node.name.removesuffix('/Split').replace('attn', 'self_attn').replace('/', '.')}.weight"
                )
                rows = np.cumsum(self.tensors[node.input[1]])
                parts = zip("qkv", np.split(found.pop(joined), rows[:-1]), strict=True)
                found |= {joined.replace("qkv", part): matrix for part, matrix in parts}
        return found

    def norms(self) -> Tensors:
        return {name: tensor for name, tensor in self.tensors.items() if name.endswith("norm.weight")}

    def _matrix(self, node: onnx.NodeProto) -> Array:
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "MatMulNBits":
            return self._blocks(node, given)
        if node.op_type == "MatMulIntegerToFloat":
            codes, scales = self.tensors[node.input[1]].astype(np.float32), self.tensors[node.input[3]]
            return np.asarray((codes.T - 128) * scales[:, None])
        assert node.op_type == "DequantizeLinear"
        codes, scales, *zeros = (self.tensors[name].astype(np.float32) for name in node.input)
        assert not np.any(zeros)
        scales = scales[:, None] if scales.ndim == 1 else np.repeat(scales, given["block_size"], 1)
        return np.asarray(codes * scales[:, : codes.shape[1]])

    def _blocks(self, node: onnx.NodeProto, given: dict[str, Any]) -> Array:
        bits, width, size = given["bits"], given["K"], given["block_size"]
        codes, scales = self.tensors[node.input[1]], self.tensors[node.input[2]]
        assert codes.shape == (given["N"], -(-width // size), size * bits // 8)
        zeros = np.full(scales.shape, 1 << (bits - 1), np.uint8)
        if len(node.input) > 3:
            zeros = self._unpacked(self.tensors[node.input[3]], bits)[:, : scales.shape[1]]
        codes = self._unpacked(codes.reshape(given["N"], -1), bits)
        offsets, factors = (np.repeat(part.astype(np.float32), size, 1) for part in (zeros, scales))
        return np.asarray(((codes.astype(np.float32) - offsets) * factors)[:, :width])

    @staticmethod
    def _unpacked(packed: Array, bits: int) -> Array:
        return packed if bits == 8 else np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1)


# --- what it computes


def logits_of(model: bytes | str, ids: list[int]) -> Array:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    graph = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed: dict[str, Array] = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    for value in graph.get_inputs():
        if value.name.startswith("past_key_values"):
            kind = np.int8 if value.type == "tensor(int8)" else np.float32
            feed[value.name] = np.zeros((1, value.shape[1], 0, value.shape[3]), kind)
    result: Array = graph.run(["logits"], feed)[0]
    return result


def exact_graph(stored: Stored) -> bytes:
    """The bundle's graph with products that do not round their inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(stored.model)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
    return bytes(model.SerializeToString())


def distance(got: Array, expected: Array) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


# Tokens of the calibration text, whose first five are special: keys and values that it never met are clipped.

CASES: list[tuple[str, bool, dict[str, Any]]] = [
    (QWEN, True, {"weights": "int4"}),
    (QWEN, False, {"weights": "int4", "method": "gptq", "block_size": "64"}),
    (LLAMA, True, {"weights": "int4", "method": "awq", "block_size": "32"}),
    (LLAMA, False, {"weights": "int4", "head": "int8", "symmetric": True, "kv": "int8"}),
    (QWEN, True, {"weights": "int4", "head": "model", "method": "gptq", "kv": "int8-tensor"}),
    (QWEN, True, {"weights": "int8", "head": "int4"}),
    (LLAMA, True, {"weights": "int8", "method": "gptq", "block_size": "128"}),
    (QWEN, False, {"weights": "int8", "method": "awq", "kv": "int8"}),
    (LLAMA, False, {"weights": "int8", "block_size": "channel", "head": "model"}),
    (QWEN, True, {"weights": "int8", "activations": "int8"}),
    (LLAMA, False, {"weights": "int8", "activations": "int8", "method": "rtn", "head": "model", "kv": "int8"}),
    (LLAMA, True, {"weights": "fp8", "head": "int8"}),
    (QWEN, False, {"weights": "fp8", "block_size": "channel", "kv": "int8-tensor"}),
    (QWEN, True, {"weights": "fp8", "activations": "fp8", "head": "int4"}),
]


@pytest.mark.parametrize(("architecture", "tied", "options"), CASES, ids=str)
def test_logits_are_those_of_the_dequantized_checkpoint(
    make_checkpoint: MakeCheckpoint, export: Export, architecture: str, tied: bool, options: dict[str, Any]
) -> None:
    # Where each layer is rounded on what the one before gives there are two.
    num_layers = 2 if options.get("method") == "gptq" else 1
    checkpoint = odd_checkpoint(make_checkpoint, architecture, tied=tied, num_hidden_layers=num_layers)
    bundle = standard_only(export(checkpoint, **options).path)
    stored = Stored(bundle)
    matrices, norms = stored.matrices(), stored.norms()
    is_head_stored = options.get("head", "model" if options["weights"] == "fp8" else "int8") != "model"
    assert len(matrices) == 7 * num_layers + is_head_stored

    def change(tensors: Tensors) -> None:
        for name, tensor in (matrices | norms).items():
            assert tensors[name].shape == tensor.shape
            tensors[name] = np.ascontiguousarray(tensor, np.float32)
        if is_head_stored and not tied:
            tensors["model.embed_tokens.weight"] = table_of(stored)

    replaced = odd_checkpoint(
        make_checkpoint, architecture, tied=tied, num_hidden_layers=num_layers, name="replaced", change=change
    )
    expected = logits_of(str(export(replaced, "float", weights="fp32").path / "model.onnx"), IDS)
    exact = logits_of(exact_graph(stored), IDS)
    shipped = logits_of(str(bundle.path / "model.onnx"), IDS)
    # The operators do what their dequantized form does, where nothing but weights is rounded ...
    activations, kv = options.get("activations", "none"), options.get("kv", "model")
    tolerance = {"none": 1e-5, "int8": 0.05, "fp8": 0.2}[activations] + (0.03 if kv != "model" else 0)
    assert distance(exact, expected) <= tolerance
    # ... and rounding activations inside the products costs little.
    assert distance(shipped, expected) <= tolerance + 0.05
    # The weights were rounded, and are no others.
    original = load_file(checkpoint / "model.safetensors")
    if options.get("method", "rtn") == "rtn" and activations != "int8":
        for name, matrix in matrices.items():
            assert 0 < distance(matrix, original[name]) < (0.2 if "int4" in options.values() else 0.05), name


def table_of(stored: Stored) -> Array:
    """An untied embedding, dequantized: its table has a matrix's layout, without the axis of blocks."""
    (node,) = (node for node in stored.model.graph.node if node.op_type == "GatherBlockQuantized")
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    codes = Stored._unpacked(stored.tensors[node.input[0]], given["bits"])
    scales = stored.tensors[node.input[2]]
    zeros = np.full(scales.shape, 1 << (given["bits"] - 1), np.uint8)
    if len(node.input) > 3:
        zeros = Stored._unpacked(stored.tensors[node.input[3]], given["bits"])[:, : scales.shape[1]]
    offsets, factors = (np.repeat(part.astype(np.float32), given["block_size"], 1) for part in (zeros, scales))
    return np.ascontiguousarray(((codes - offsets) * factors)[:, :48], np.float32)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        (QWEN, {"weights": "int4", "kv": "int8"}),
        (LLAMA, {"weights": "int8", "activations": "int8", "kv": "int8-tensor"}),
        (QWEN, {"weights": "fp8", "activations": "fp8"}),
    ],
    ids=str,
)
def test_bundle_opens_and_generates(
    make_checkpoint: MakeCheckpoint, export: Export, architecture: str, options: dict[str, Any]
) -> None:
    bundle = export(odd_checkpoint(make_checkpoint, architecture, tied=True), **options)
    manifest = Bundle.open(bundle.path).manifest
    assert manifest.quantization.weights == options["weights"]
    assert manifest.quantization.activations == options.get("activations", "none")
    assert manifest.graph.kv_type == ("int8" if "kv" in options else "float16")
    with RubricModel.open(bundle.path) as model:
        first, second = (model.generate_text("Write a haiku.", max_new_tokens=8) for _ in range(2))
    assert first.text == second.text
    assert not list(bundle.path.parent.glob("bundle.*"))


def test_manifest_states_what_was_lost(make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path) -> None:
    bundle = export(make_checkpoint(), weights="int8")
    quality = bundle.manifest.quality
    assert quality is not None
    assert {*quality} == {"kl", "top1_agreement", "perplexity", "reference_perplexity", "num_tokens"}
    assert quality["num_tokens"] == len(EVALUATION)
    assert 0 < quality["kl"] < 0.01
    assert 0.8 < quality["top1_agreement"] <= 1
    assert json.loads((tmp_path / "bundle" / "rubricrm.json").read_text())["quality"] == quality
    assert export(make_checkpoint(name="again"), "float").manifest.quality is None


@pytest.mark.parametrize(("weights", "kv"), [("bf16", "int8"), ("int4", "int8-tensor")])
def test_narrow_cache_costs_little(make_checkpoint: MakeCheckpoint, export: Export, weights: str, kv: str) -> None:
    checkpoint = make_checkpoint()
    narrow, whole = export(checkpoint, weights=weights, kv=kv), export(checkpoint, "whole", weights=weights)
    assert narrow.manifest.graph.kv_type == "int8"
    paths = (standard_only(bundle.path).path / "model.onnx" for bundle in (narrow, whole))
    got, expected = (logits_of(str(path), IDS) for path in paths)
    assert 0 < distance(got, expected) < 0.05


def test_keys_are_not_clipped_at_later_positions(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    """The slowest channels of a key hardly turn within a calibration text: their scales must bear more."""
    bundle = export(make_checkpoint(max_position_embeddings=8192, num_hidden_layers=1), weights="fp32", kv="int8")
    session = Session(bundle, threads=1)
    slot = session.new_slot(4096)
    for start in range(0, 4096, 256):
        session.run(slot, [IDS[(start + offset) % 60] for offset in range(256)])
    keys = slot.cache.positions(4096)[0, 0, 0]  # [kv_heads, positions, head_dim]
    assert (np.abs(keys.astype(np.int16)) == 127).mean() < 1e-3
    session.close()


def test_figures_of_the_built_in_text(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    bundle = export(make_checkpoint(num_hidden_layers=1), weights="int4", eval_text=None)
    quality = bundle.manifest.quality
    assert quality is not None
    assert {"kl", "kl_stderr", "top1_agreement", "perplexity", "reference_perplexity", "num_tokens"} <= {*quality}
    assert Bundle.open(bundle.path, verify=True).manifest.quality == quality


def test_provenance_names_the_options_and_no_path(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(num_hidden_layers=1)
    bundle = export(checkpoint, weights="int4", method="gptq", block_size="32", symmetric=True)
    command = bundle.manifest.provenance.command
    assert "--weights int4 --method gptq --block-size 32" in command
    assert "--symmetric" in command
    assert str(tmp_path) not in command


# --- the data file


def spans(bundle: Bundle) -> dict[str, tuple[int, int]]:
    found = {}
    for tensor in onnx.load(bundle.path / "model.onnx", load_external_data=False).graph.initializer:
        facts = {entry.key: entry.value for entry in tensor.external_data}
        if facts:
            found[tensor.name] = int(facts["offset"]), int(facts["length"])
    return found


@pytest.mark.parametrize(("weights", "head"), [("int4", "int4"), ("int4", "int8"), ("fp8", "int8")])
def test_tied_head_and_embedding_are_the_same_bytes(
    make_checkpoint: MakeCheckpoint, export: Export, weights: str, head: str
) -> None:
    tied = export(odd_checkpoint(make_checkpoint, QWEN, tied=True), weights=weights, head=head)
    standard_only(tied.path)
    found = spans(tied)
    name = "model.embed_tokens.weight"
    assert found[f"{name}.codes"] == found[f"{name}.rows"]
    assert found[f"{name}.codes"][1] == 272 * 64 * int(head[-1]) // 8
    # Nothing else overlaps, and nothing lies beyond the file.
    intervals = sorted({*found.values()})
    ends = [offset + length for offset, length in intervals]
    assert all(end <= start for end, (start, _) in zip(ends, intervals[1:], strict=False))
    assert ends[-1] == (tied.path / "model.onnx.data").stat().st_size


def test_untied_head_is_stored_beside_the_embedding(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    found = spans(export(odd_checkpoint(make_checkpoint, QWEN, tied=False), weights="int4"))
    assert {"model.embed_tokens.weight.rows", "lm_head.weight.codes"} <= found.keys()
    assert found["model.embed_tokens.weight.rows"] != found["lm_head.weight.codes"]


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "int4", "method": "gptq", "kv": "int8"},
        {"weights": "int8", "activations": "int8"},
        {"weights": "fp8", "activations": "fp8", "target": "cuda", "kv": "fp8"},
    ],
    ids=str,
)
def test_two_exports_give_the_same_bytes(
    make_checkpoint: MakeCheckpoint, export: Export, options: dict[str, Any]
) -> None:
    checkpoint = make_checkpoint(num_hidden_layers=1)
    first, second = (export(checkpoint, name, **options).path for name in ("first", "second"))
    files = sorted(file.name for file in first.iterdir())
    assert files == sorted(file.name for file in second.iterdir())
    assert ("model.onnx.data" if options.get("target") == "cuda" else "model.step.onnx.data") in files
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.parametrize("block_size", ["128", "channel"])
def test_fp8_numbers_of_the_file_are_the_nearest(
    make_checkpoint: MakeCheckpoint, export: Export, block_size: str
) -> None:
    checkpoint = odd_checkpoint(make_checkpoint, QWEN, tied=True)
    on_cpu = Stored(export(checkpoint, weights="fp8", block_size=block_size))
    on_gpu = Stored(export(checkpoint, "cuda", weights="fp8", block_size=block_size, target="cuda"))
    originals = load_file(checkpoint / "model.safetensors")
    names = [name for name in originals if name.endswith("proj.weight")]
    for name in names:
        codes, scales = on_cpu.tensors[f"{name}.codes"], on_cpu.tensors[f"{name}.scales"].reshape(-1, 1)
        assert codes.dtype == ml_dtypes.float8_e4m3fn
        # No row is longer than a block here but those of o_proj, which are as long.
        np.testing.assert_array_equal(scales[:, 0], np.abs(originals[name]).max(1) / np.float32(448))
        wanted = np.clip(originals[name] / scales, -448, 448).astype(ml_dtypes.float8_e4m3fn)
        assert codes.tobytes() == wanted.tobytes()
        assert np.isfinite(codes.astype(np.float32)).all()
        # What a GPU gets is what was checked here.
        assert on_gpu.tensors[f"{name}.codes"].tobytes() == codes.tobytes()
        assert on_gpu.tensors[f"{name}.scales"].tobytes() == scales.tobytes()


def test_fp8_loses_little(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    checkpoint = make_checkpoint()
    quality = [
        export(checkpoint, activations, weights="fp8", activations=activations).manifest.quality
        for activations in ("none", "fp8")
    ]
    kls = [figures["kl"] for figures in quality if figures is not None]
    assert 0 < kls[0] < kls[1] < 0.05
    assert kls[0] < 0.01


def test_fp8_weight_at_the_end_of_the_range_is_a_number(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    def change(tensors: Tensors) -> None:
        weight = tensors["model.layers.0.mlp.up_proj.weight"]
        # Largest weights whose quotient by their scale is rounded beyond 448 by some of the divisions.
        weight[:, 3] = np.float32(0.7) + np.arange(len(weight), dtype=np.float32) * np.float32(1e-3)

    checkpoint = make_checkpoint(dtype="F32", change=change)
    codes = Stored(export(checkpoint, weights="fp8")).tensors["model.layers.0.mlp.up_proj.weight.codes"]
    assert (codes.astype(np.float32)[:, 3] == 448).all()


# --- limits


@pytest.mark.parametrize(
    ("options", "limit", "message"),
    [
        ({}, {"max_kl": 1e-9}, "KL is .*expected at most 1e-09"),
        ({"target": "cuda"}, {"min_top1": 1.0}, "top-1 agreement is .*expected at least 1"),
        ({"kv": "int8"}, {"min_top1": 1.0}, "top-1 agreement is .*expected at least 1"),
        ({"method": "gptq"}, {"max_kl": 1e-9, "min_top1": 1.0}, "KL is .*; top-1 agreement is "),
    ],
    ids=str,
)
def test_bundle_beyond_a_limit_is_refused_and_not_written(
    make_checkpoint: MakeCheckpoint,
    export: Export,
    tmp_path: Path,
    options: dict[str, Any],
    limit: dict[str, float],
    message: str,
) -> None:
    checkpoint = make_checkpoint(num_hidden_layers=1)
    with pytest.raises(QualityTooLow, match=f"{message}.*Layers that lose most: "):
        export(checkpoint, weights="int4", **options, **limit)
    left = {file.name for file in tmp_path.iterdir()} - {"calibration.txt", "evaluation.txt", "checkpoint"}
    # What calibration found is kept: it is right, and was the work.
    assert left <= {"bundle.resume"}
    assert bool(left) is ("method" in options or "kv" in options)


def test_bundle_within_its_limits_is_written(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    bundle = export(make_checkpoint(), weights="int8", max_kl=0.01, min_top1=0.5)
    assert bundle.manifest.quality is not None


# --- bad input


NOT_FINITE = [
    {},
    {"weights": "fp32"},
    {"weights": "fp16"},
    {"weights": "bf16", "target": "cuda"},
    {"weights": "fp16", "target": "tensorrt"},
    {"weights": "int4"},
    {"weights": "int4", "method": "gptq"},
    {"weights": "int4", "method": "awq"},
    {"weights": "int8"},
    {"weights": "int8", "activations": "int8"},
    {"weights": "int8", "activations": "int8", "method": "rtn"},
    {"weights": "fp8"},
    {"weights": "fp8", "activations": "fp8"},
    {"weights": "bf16", "kv": "int8"},
    {"weights": "int8", "target": "cuda"},
]


@pytest.mark.parametrize(("options", "value"), [*zip(NOT_FINITE, [np.nan, -np.inf, np.inf] * 5, strict=False)], ids=str)
def test_weight_that_is_not_finite_is_refused_by_name(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path, options: dict[str, str], value: float
) -> None:
    def change(tensors: Tensors) -> None:
        tensors["model.layers.1.mlp.gate_proj.weight"][7, 3] = value

    checkpoint = make_checkpoint(change=change)
    with pytest.raises(
        CheckpointInvalid, match=rf'"model.layers.1.mlp.gate_proj.weight" holds 1 .*, the first \({value}\) at \[7, 3\]'
    ):
        export(checkpoint, **options)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "model.embed_tokens.weight"),
        ({"weights": "fp16"}, "lm_head.weight"),
        ({"weights": "int4"}, "model.embed_tokens.weight"),
        ({"weights": "int8"}, "lm_head.weight"),
        ({"weights": "fp8", "head": "int8"}, "model.embed_tokens.weight"),
    ],
    ids=str,
)
def test_table_that_is_not_finite_is_refused_by_name(
    make_checkpoint: MakeCheckpoint, export: Export, options: dict[str, str], name: str
) -> None:
    def change(tensors: Tensors) -> None:
        tensors[name][260, 1] = np.inf

    checkpoint = make_checkpoint(change=change, tie_word_embeddings=False, num_hidden_layers=1)
    with pytest.raises(CheckpointInvalid, match=rf'"{name}" holds 1 infinite .* at \[260, 1\]'):
        export(checkpoint, **options)


@pytest.mark.parametrize("options", NOT_FINITE[::3], ids=str)
@pytest.mark.parametrize("name", ["model.layers.0.input_layernorm.weight", "model.norm.weight"])
def test_norm_that_is_not_finite_ships_nothing(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path, options: dict[str, str], name: str
) -> None:
    def change(tensors: Tensors) -> None:
        tensors[name][2] = np.nan

    checkpoint = make_checkpoint(change=change, num_hidden_layers=1)
    # Or the bundle's logits are no numbers: it is measured before the checkpoint is read.
    with pytest.raises(RubricrmError, match=rf'"{name}" holds 1 NaN .* at \[2\]|logits'):
        export(checkpoint, **options)
    assert not (tmp_path / "bundle").exists()


def test_calibration_that_does_not_exist_is_an_error(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    with pytest.raises(OptionInvalid, match="nothing.txt: cannot be read"):
        export(make_checkpoint(), weights="int4", method="gptq", calibration="nothing.txt")


def test_texts_of_a_model_with_a_short_context(make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The response is short. " * 200)
    options = {"weights": "int4", "method": "gptq", "calibration": str(text), "eval_text": text}
    quality = export(make_checkpoint(max_position_embeddings=300), **options).manifest.quality
    assert quality is not None
    assert quality["num_tokens"] % 300 == 0


def test_text_that_the_model_cannot_take_leaves_nothing(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TokenText("long", (), ((1,) * 301,))
    monkeypatch.setattr("rubricrm_export.onnx_bundle.calibration_run.calibration_text", lambda *_: text)
    with pytest.raises(OptionInvalid, match="long: holds a sequence of 301 tokens"):
        export(make_checkpoint(max_position_embeddings=300), weights="int4", method="gptq")
    assert not list(tmp_path.glob("bundle*"))


# --- SmoothQuant


def add_outliers(tensors: Tensors, channels: int = 8) -> None:
    """Make input channels of every projection behind a norm 24 times larger, and divide the weights that meet them."""
    hidden = len(tensors["model.norm.weight"])
    chosen = np.random.default_rng(1).permutation(hidden)[:channels]
    for name, tensor in tensors.items():
        if name.endswith("layernorm.weight"):
            tensor[chosen] *= 24
        elif name.split(".")[-2] in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"):
            tensor[:, chosen] /= 24


@pytest.mark.parametrize(
    ("hidden", "inner", "heads"), [(64, 160, 4), (256, 512, 8)], ids=["hidden size 64", "hidden size 256"]
)
def test_smoothquant_recovers_what_outliers_lose(
    make_checkpoint: MakeCheckpoint, export: Export, hidden: int, inner: int, heads: int
) -> None:
    shape = {"hidden_size": hidden, "intermediate_size": inner, "num_attention_heads": heads}
    plain = make_checkpoint(name="plain", **shape)
    loud = make_checkpoint(name="loud", change=add_outliers, **shape)
    options = {"weights": "int8", "activations": "int8", "head": "model"}
    kls = {}
    for checkpoint, method in ((plain, "rtn"), (loud, "rtn"), (loud, "smoothquant")):
        quality = export(checkpoint, f"{checkpoint.name}-{method}", method=method, **options).manifest.quality
        assert quality is not None
        kls[checkpoint.name, method] = quality["kl"]
    naive, smoothed = kls["loud", "rtn"], kls["loud", "smoothquant"]
    assert naive > 4 * kls["plain", "rtn"]
    assert naive - smoothed >= 0.8 * naive


@pytest.mark.parametrize("options", [{"weights": "fp8"}, {"kv": "int8"}, {"weights": "int4", "head": "model"}], ids=str)
def test_number_that_no_text_would_meet(
    make_checkpoint: MakeCheckpoint, export: Export, options: dict[str, Any]
) -> None:
    """A row of an embedding that is stored as floats, for a token that neither text holds."""

    def damage(tensors: dict[str, Any]) -> None:
        tensors["model.embed_tokens.weight"][7, 3] = np.nan

    with pytest.raises(CheckpointInvalid, match=r"embed_tokens\.weight. holds 1 NaN .* at \[7, 3\]"):
        export(make_checkpoint(change=damage), **options)


def test_a_refused_calibration_may_be_resumed_with_another_limit(
    make_checkpoint: MakeCheckpoint, export: Export
) -> None:
    checkpoint = make_checkpoint()
    options: dict[str, Any] = {"weights": "int4", "method": "gptq"}
    with pytest.raises(QualityTooLow):
        export(checkpoint, max_kl=1e-6, **options)
    bundle = export(checkpoint, max_kl=5.0, resume=True, **options)
    assert not bundle.path.with_name("bundle.resume").exists()
