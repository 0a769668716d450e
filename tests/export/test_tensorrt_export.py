"""Directories for TensorRT-LLM, Edge-LLM and vLLM: what is stored, what it computes, and what is refused."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_reference import Decoder, read_directory, read_legacy, read_unified
from numpy.typing import NDArray
from rubricrm.engines.engine_directory import DIRECTORY_FILE
from rubricrm.errors import BundleInvalid, OptionInvalid, OutputExists
from rubricrm.rubric.form import regex
from rubricrm.rubric.rubric import parse
from rubricrm.runtime.prompt_directory import open_prompt_directory
from rubricrm_export.calibrate.calibrated_weights import _LayerCalibration
from rubricrm_export.calibrate.token_text import TokenText
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.errors import CheckpointInvalid, ExportFailed
from rubricrm_export.measure.logit_source import CheckpointLogits
from rubricrm_export.onnx_bundle import memory
from rubricrm_export.onnx_bundle.export import export_onnx
from rubricrm_export.onnx_bundle.options import OnnxExport
from rubricrm_export.tensorrt.directory import TensorRTDirectory
from rubricrm_export.tensorrt.job import TensorRTExport
from rubricrm_export.tensorrt.support import FORMATS, Format
from rubricrm_export.tensorrt_build.export import export_tensorrt
from rubricrm_export.tensorrt_lint.linter import inspect_directory
from short_texts import CALIBRATION, IDS

pytestmark = pytest.mark.usefixtures("one_core")
MakeCheckpoint = Callable[..., Path]
Export = Callable[..., TensorRTDirectory]
Array = NDArray[Any]

# Groups of 128 divide every width.
WIDE = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64}
LEGACY = "tensorrt-llm-1.2"


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """A function that exports a checkpoint, calibrated on a short text."""

    def make(checkpoint: Path, reader: str, weights: str, **options: Any) -> TensorRTDirectory:
        (tmp_path / "text.txt").write_text(CALIBRATION)
        target = options.pop("target", tmp_path / "directory")
        calibration = options.pop("calibration", str(tmp_path / "text.txt"))
        return export_tensorrt(
            TensorRTExport(str(checkpoint), target, reader, weights, calibration=calibration, **options)
        )

    return make


def read(directory: TensorRTDirectory) -> Decoder:
    return read_legacy(directory.path) if directory.reader == LEGACY else read_unified(directory.path)


def exact_logits(checkpoint: Path, ids: list[int]) -> Array:
    source = CheckpointLogits(Checkpoint.open(checkpoint), TokenText("test", (), (tuple(ids),)), threads=1)
    return np.concatenate(list(source.rows()))


def distance(got: Array, expected: Array) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


# Relative error of the logits of random weights: a few times what rounding the weights alone makes of one product.
TOLERANCE = {"fp16": 2e-3, "bf16": 1.5e-2, "int8": 4e-2, "fp8": 0.15, "int4": 0.4}
COMBINATIONS = [(row, kv, head) for row in FORMATS for kv in row.kv_caches for head in row.heads]


def ids_of(value: object) -> str | None:
    return f"{value.reader} {value.weights}" if isinstance(value, Format) else None


@pytest.mark.parametrize(("row", "kv", "head"), COMBINATIONS, ids=ids_of)
def test_every_combination_computes_the_checkpoints_function(
    make_checkpoint: MakeCheckpoint, export: Export, row: Format, kv: str, head: str
) -> None:
    checkpoint = make_checkpoint(**WIDE)
    directory = export(checkpoint, row.reader, row.weights, kv=kv, head=head)
    got, expected = read(directory).logits(IDS), exact_logits(checkpoint, IDS)
    error = distance(got, expected)
    assert error < TOLERANCE[row.weights]
    if row.methods:
        assert error > 1e-4  # something was rounded
    assert not inspect_directory(directory.path, row.reader)


@pytest.mark.parametrize(("reader", "weights"), [("tensorrt-llm", "fp16"), (LEGACY, "fp16"), ("edge-llm", "fp16")])
def test_a_client_finds_its_prompt_inside(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path, reader: str, weights: str
) -> None:
    checkpoint = make_checkpoint(**WIDE)
    directory = export(checkpoint, reader, weights)
    bundle = export_onnx(OnnxExport(str(checkpoint), tmp_path / "bundle")).manifest
    prompt = open_prompt_directory(directory.path)
    assert prompt.path == directory.path / "prompt"
    assert prompt.manifest.graphs == ()
    assert (prompt.manifest.model, prompt.manifest.chat) == (bundle.model, bundle.chat)
    assert prompt.manifest.prompt.template == bundle.prompt.template
    assert prompt.manifest.files["grammar.npz"] == bundle.files["grammar.npz"]
    assert prompt.manifest.provenance.source == bundle.provenance.source
    assert TensorRTDirectory.open(directory.path, verify=True).files.keys() >= {"config.json"}


@pytest.mark.parametrize("reader", ["tensorrt-llm", LEGACY])
@pytest.mark.parametrize(("architecture", "tied"), [("Qwen3ForCausalLM", False), ("LlamaForCausalLM", False)])
def test_untied_heads_and_models_without_norms_of_heads(
    make_checkpoint: MakeCheckpoint, export: Export, reader: str, architecture: str, tied: bool
) -> None:
    checkpoint = make_checkpoint(architecture, tie_word_embeddings=tied)
    directory = export(checkpoint, reader, "fp16")
    assert distance(read(directory).logits(IDS), exact_logits(checkpoint, IDS)) < 2e-3


@pytest.mark.parametrize(("reader", "weights"), [("tensorrt-llm", "int8"), ("tensorrt-llm", "fp8"), (LEGACY, "fp8")])
def test_weights_are_the_nearest(make_checkpoint: MakeCheckpoint, export: Export, reader: str, weights: str) -> None:
    checkpoint = make_checkpoint(**WIDE)
    found = read(export(checkpoint, reader, weights))
    stored = Checkpoint.open(checkpoint)
    for number, layer in enumerate(found.layers):
        for name, part in (
            ("self_attn.k_proj", "k"),
            ("self_attn.o_proj", "o"),
            ("mlp.gate_proj", "gate"),
            ("mlp.up_proj", "up"),
        ):
            tensor = stored.tensor(f"model.layers.{number}.{name}.weight")
            exact = tensor.rows(0, tensor.shape[0]).astype(np.float64)
            error = np.abs(layer[part].weight - exact)
            if weights == "int8":
                assert (error <= np.abs(exact).max(1, keepdims=True) / 127 / 2 * 1.0001).all()
            else:  # three bits after the point, and the smallest step: 2 ** -9 of a scale
                largest = np.abs(layer[part].weight).max()
                assert (error <= np.maximum(np.abs(exact) / 16, largest / 448 / 2**10) * 1.01).all()


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
def test_int4_by_every_method(make_checkpoint: MakeCheckpoint, export: Export, method: str) -> None:
    checkpoint = make_checkpoint(**WIDE)
    directory = export(checkpoint, "tensorrt-llm", "int4", method=method)
    assert directory.method == method
    assert distance(read(directory).logits(IDS), exact_logits(checkpoint, IDS)) < TOLERANCE["int4"]


def test_smoothing_is_folded_before_scales_of_inputs_are_taken(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    """Static scales are those of the smoothed inputs: with those of the loud ones this error is ten times larger."""

    def add_outliers(tensors: dict[str, Array]) -> None:
        for name, tensor in tensors.items():
            if name.endswith("layernorm.weight"):
                tensor[:4] *= 30
            elif name.split(".")[-2] in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"):
                tensor[:, :4] /= 30

    checkpoint = make_checkpoint(change=add_outliers, **WIDE)
    expected = exact_logits(checkpoint, IDS)
    errors = {}
    for method in ("rtn", "smoothquant"):
        directory = export(checkpoint, "edge-llm", "int8", method=method, force=True)
        errors[method] = distance(read(directory).logits(IDS), expected)
    assert errors["smoothquant"] < 0.3 * errors["rtn"]


# --- What readers insist on


def test_scales_of_products_with_the_same_inputs_are_equal(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    tensors = read_directory(export(make_checkpoint(**WIDE), "tensorrt-llm", "fp8").path)
    for layer in range(2):
        for names in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj")):
            for scale in ("input_scale", "weight_scale"):
                values = {float(tensors[f"model.layers.{layer}.{name}.{scale}"]) for name in names}
                assert len(values) == 1
    assert tensors["model.layers.0.self_attn.q_proj.weight_scale"].shape == ()


def test_fp8_weights_reach_the_end_of_their_range(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    tensors = read_directory(export(make_checkpoint(**WIDE), "vllm", "fp8").path)
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    assert max(np.abs(tensors[name].astype(np.float32)).max() for name in names) == 448
    assert all(np.isfinite(tensors[name].astype(np.float32)).all() for name in names)


def test_fp8_without_calibration_has_no_scales_of_inputs(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    checkpoint = make_checkpoint(**WIDE)
    directory = export(checkpoint, "tensorrt-llm", "fp8", calibration="none")
    assert not [name for name in read_directory(directory.path) if name.endswith("input_scale")]
    assert distance(read(directory).logits(IDS), exact_logits(checkpoint, IDS)) < TOLERANCE["fp8"]


@pytest.mark.parametrize(
    "options", [{"reader": "vllm", "weights": "fp8"}, {"reader": "tensorrt-llm", "weights": "int4"}]
)
def test_calibration_that_is_needed_cannot_be_left_out(
    make_checkpoint: MakeCheckpoint, export: Export, options: dict[str, str]
) -> None:
    with pytest.raises(OptionInvalid, match="needs scales that calibration measures|calibration none"):
        export(make_checkpoint(**WIDE), calibration="none", **options)


@pytest.mark.parametrize("kv", ["int8", "fp8"])
def test_one_scale_of_keys_and_values_for_the_legacy_reader(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path, kv: str
) -> None:
    checkpoint = make_checkpoint(**WIDE)
    tensors = read_directory(export(checkpoint, LEGACY, "fp16", kv=kv).path)
    factor = tensors["transformer.layers.1.attention.kv_cache_scaling_factor"]
    assert (factor.dtype, factor.shape) == (np.float32, (1,))
    if kv == "fp8":
        directory = export(checkpoint, "tensorrt-llm", "fp16", kv=kv, target=tmp_path / "other")
        other = read_directory(directory.path)
        pair = [float(other[f"model.layers.1.self_attn.{part}_proj.{part}_scale"]) for part in "kv"]
        assert float(factor[0]) == max(pair)


def test_configuration_of_the_unified_form(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    path = export(make_checkpoint(**WIDE), "vllm", "fp8", kv="fp8").path
    config = json.loads((path / "config.json").read_text())
    assert (config["head_dim"], config["rope_theta"]) == (64, 1e6)
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": 1e6}
    quantization = config["quantization_config"]
    assert quantization["quant_method"] == "modelopt"
    assert quantization["ignore"] == ["lm_head"]
    assert quantization["kv_cache_scheme"] == {"dynamic": False, "num_bits": 8, "type": "float"}
    assert json.loads((path / "hf_quant_config.json").read_text())["quantization"] == {
        "quant_algo": "FP8",
        "kv_cache_quant_algo": "FP8",
        "exclude_modules": ["lm_head"],
    }


def test_configuration_of_the_legacy_form(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    config = json.loads((export(make_checkpoint(**WIDE), LEGACY, "int8", kv="int8").path / "config.json").read_text())
    expected = {
        "architecture": "Qwen3ForCausalLM",
        "qwen_type": "qwen3",
        "dtype": "bfloat16",
        "logits_dtype": "float32",
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_size": 64,
        "intermediate_size": 256,
        "vocab_size": 272,
        "hidden_act": "silu",
        "norm_epsilon": 1e-6,
        "position_embedding_type": "rope_gpt_neox",
        "max_position_embeddings": 2048,
        "rotary_base": 1e6,
        "rotary_scaling": None,
        "attn_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        "use_parallel_embedding": False,
    }
    assert {key: config[key] for key in expected} == expected
    assert config["quantization"] == {"quant_algo": "W8A16", "kv_cache_quant_algo": "INT8"}


def test_scripts_hold_the_limits(make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path) -> None:
    limits = {"max_batch_size": 3, "max_input_len": 700, "max_seq_len": 1100}
    checkpoint = make_checkpoint(**WIDE)
    legacy = export(checkpoint, LEGACY, "fp8", kv="fp8", **limits).path
    script = (legacy / "build.sh").read_text()
    for words in ("--max_batch_size 3", "--max_input_len 700", "--max_seq_len 1100", "--use_fp8_context_fmha enable"):
        assert words in script
    assert os.access(legacy / "build.sh", os.X_OK)
    edge = export(checkpoint, "edge-llm", "fp16", target=tmp_path / "edge", **limits).path
    assert "--maxBatchSize 3 --maxInputLen 700 --maxKVCacheCapacity 1100" in (edge / "build.sh").read_text()
    served = export(checkpoint, "tensorrt-llm", "fp16", target=tmp_path / "served", **limits).path
    assert "max_seq_len: 1100" in (served / "serve.yaml").read_text()
    assert json.loads((served / "request.json").read_text())["max_tokens"] == 400


def test_regex_and_parser_mean_the_same() -> None:
    text = "1. The response is short. [Hard Rule]\n2. The response says 3.5 (or more). [Principle]"
    assert re.fullmatch(regex(), text)
    rubric = parse(text)
    assert (len(rubric.criteria), rubric.issues) == (2, ())
    for wrong in (
        "1. The answer is short. [Hard Rule]",
        "The response is short. [Hard Rule]",
        "1. The response",
    ):
        assert not re.fullmatch(regex(), wrong)


# --- The directory


def test_directory_names_its_files_and_no_path(make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path) -> None:
    directory = export(make_checkpoint(**WIDE), "vllm", "fp8", device="h100")
    text = (directory.path / DIRECTORY_FILE).read_text()
    assert str(tmp_path) not in text
    written = {path.name for path in directory.path.iterdir()}
    assert written == {*directory.files, DIRECTORY_FILE, "prompt"}  # which is a bundle, with hashes of its own
    assert {"README.md", "build.sh", "tokenizer.json", "config.json", "model.safetensors"} <= written
    assert TensorRTDirectory.open(directory.path, verify=True) == directory


def test_changed_file_is_found(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    directory = export(make_checkpoint(**WIDE), "vllm", "bf16")
    weights = directory.path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    TensorRTDirectory.open(directory.path)
    with pytest.raises(BundleInvalid, match=r"model\.safetensors: has .* or was changed"):
        TensorRTDirectory.open(directory.path, verify=True)
    weights.unlink()
    with pytest.raises(BundleInvalid, match="is missing"):
        TensorRTDirectory.open(directory.path)


def test_large_models_are_split(
    make_checkpoint: MakeCheckpoint, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rubricrm_export.tensorrt_build.export._FILE_BYTES", 200_000)
    checkpoint = make_checkpoint(**WIDE)
    directory = export(checkpoint, "vllm", "bf16")
    index = json.loads((directory.path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert set(index["weight_map"]) == set(read_directory(directory.path))
    Checkpoint.open(directory.path)  # a checkpoint like any other
    assert distance(read(directory).logits(IDS), exact_logits(checkpoint, IDS)) < TOLERANCE["bf16"]


def test_two_exports_give_the_same_bytes(make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(**WIDE)
    first, second = (export(checkpoint, "tensorrt-llm", "int4", target=tmp_path / name) for name in ("a", "b"))
    assert first.files == second.files


def test_interrupted_calibration_is_continued(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(**WIDE)
    whole = export(checkpoint, "tensorrt-llm", "int4", target=tmp_path / "whole")
    run = _LayerCalibration.run
    calls: list[object] = []

    def interrupt(self: Any, *arguments: Any) -> Any:
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(arguments)
        return run(self, *arguments)

    monkeypatch.setattr(_LayerCalibration, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, "tensorrt-llm", "int4")
    assert sorted(path.name for path in tmp_path.glob("*directory*")) == ["directory.resume"]
    with pytest.raises(OutputExists, match="Pass --resume to continue it"):
        export(checkpoint, "tensorrt-llm", "int4")
    monkeypatch.setattr(_LayerCalibration, "run", run)
    assert export(checkpoint, "tensorrt-llm", "int4", resume=True).files == whole.files
    assert not list(tmp_path.glob("*.resume"))


def test_too_little_memory_for_the_calibration(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total_memory_bytes", lambda: 300 << 20)
    checkpoint = make_checkpoint(**WIDE)
    with pytest.raises(ExportFailed, match="Nothing was written"):
        export(checkpoint, "tensorrt-llm", "int4")
    assert not list(tmp_path.glob("directory*"))
    export(checkpoint, "tensorrt-llm", "int4", method="rtn")


def test_what_exists_is_replaced_on_request_alone(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(**WIDE)
    export(checkpoint, "vllm", "bf16")
    with pytest.raises(OutputExists, match="Pass --force"):
        export(checkpoint, "vllm", "fp16")
    assert export(checkpoint, "vllm", "fp16", force=True).weights == "fp16"
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputExists, match=f"not one with {DIRECTORY_FILE}"):
        export(checkpoint, "vllm", "fp16", target=tmp_path / "mine", force=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("weights", ["fp16", "fp8", "int8", "int4"])
def test_weights_that_are_not_finite_leave_nothing(
    make_checkpoint: MakeCheckpoint, export: Export, tmp_path: Path, weights: str, value: float
) -> None:
    def damage(tensors: dict[str, Array]) -> None:
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value

    options = {"calibration": "none"} if weights == "fp8" else {}
    method = {"method": "rtn"} if weights == "int4" else {}
    with pytest.raises(CheckpointInvalid, match=r'"model\.layers\.1\.mlp\.up_proj\.weight" holds 1 (NaN|infinite) '):
        export(make_checkpoint(change=damage, **WIDE), "tensorrt-llm", weights, **options, **method)
    assert not (tmp_path / "directory").exists()


def test_int4_of_widths_that_groups_do_not_divide(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    with pytest.raises(OptionInvalid, match=r"q_proj\.weight has 48 inputs .* groups of 128"):
        export(make_checkpoint(), "tensorrt-llm", "int4")


def test_limits_beyond_the_context(make_checkpoint: MakeCheckpoint, export: Export) -> None:
    checkpoint = make_checkpoint(**WIDE)
    with pytest.raises(OptionInvalid, match="max-seq-len is 4096, the model's context holds 2048"):
        export(checkpoint, "vllm", "bf16", max_seq_len=4096)
    with pytest.raises(OptionInvalid, match=r"max-seq-len must exceed max-input-len \(2048\)"):
        export(checkpoint, "vllm", "bf16", max_input_len=2048)
