"""The linter: one planted fault a test, found by its rule and by no other; and nothing where there is none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from decoder_reference import DTYPES, read_directory
from numpy.typing import NDArray
from rubricrm.errors import OptionInvalid
from rubricrm_export.errors import CheckpointInvalid
from rubricrm_export.tensorrt.job import TensorRTExport
from rubricrm_export.tensorrt.weight_file import WeightTensor, write_weights
from rubricrm_export.tensorrt_build.export import export_tensorrt
from rubricrm_export.tensorrt_lint.linter import inspect_directory, require_sound
from short_texts import CALIBRATION

pytestmark = pytest.mark.usefixtures("one_core")
MakeCheckpoint = Callable[..., Path]
Array = NDArray[Any]
Tensors = dict[str, Array]
Document = dict[str, Any]
Sound = Callable[..., Path]

WIDE = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64, "num_hidden_layers": 1}
LEGACY = "tensorrt-llm-1.2"
STORED = {np.dtype(numpy_type): name for name, numpy_type in DTYPES.items()}

LLM_FP8 = ("tensorrt-llm", "fp8", "fp8")
LLM_INT4 = ("tensorrt-llm", "int4", "model")
EDGE_FP8 = ("edge-llm", "fp8", "fp8")
EDGE_INT8 = ("edge-llm", "int8", "model")
VLLM_FP8 = ("vllm", "fp8", "fp8")
LEGACY_FP8 = (LEGACY, "fp8", "int8")
LEGACY_INT8 = (LEGACY, "int8", "int8")

_made: dict[tuple[str, str, str], Path] = {}


@pytest.fixture
def sound(
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Sound:
    """A function that gives a copy of our own directory; each kind is exported once."""

    def copy(kind: tuple[str, str, str]) -> Path:
        if kind not in _made:
            (tmp_path / "text.txt").write_text(CALIBRATION)
            target = tmp_path_factory.mktemp("sound") / "directory"
            reader, weights, kv = kind
            method = "rtn" if weights == "int4" else None
            options = {"kv": kv, "method": method, "calibration": str(tmp_path / "text.txt")}
            export_tensorrt(TensorRTExport(str(make_checkpoint(**WIDE)), target, reader, weights, **options))
            _made[kind] = target
        return Path(shutil.copytree(_made[kind], tmp_path / "copy"))

    return copy


def edit_json(path: Path, edit: Callable[[Document], object]) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def edit_tensors(path: Path, edit: Callable[[Tensors], object]) -> None:
    tensors = read_directory(path)
    edit(tensors)
    (file,) = path.glob("*.safetensors")
    stored = [
        WeightTensor(name, STORED[tensor.dtype], tensor.shape, lambda tensor=tensor: [tensor])  # type: ignore[misc]
        for name, tensor in tensors.items()
    ]
    write_weights(file, stored, {}, lambda _: None)


def rules(path: Path, reader: str, device: str | None = None) -> list[str]:
    return [finding.rule for finding in inspect_directory(path, reader, device)]


@pytest.mark.parametrize("kind", [LLM_FP8, LLM_INT4, EDGE_FP8, EDGE_INT8, VLLM_FP8, LEGACY_FP8, LEGACY_INT8], ids=str)
def test_our_own_is_sound(sound: Sound, kind: tuple[str, str, str]) -> None:
    assert rules(sound(kind), kind[0]) == []


# --- Faults of the configuration: the rule, the directory, the edit of config.json


def set_key(key: str, value: object) -> Callable[[Document], object]:
    return lambda document: document.__setitem__(key, value)


def drop_key(*keys: str) -> Callable[[Document], object]:
    return lambda document: [document.pop(key) for key in keys]


CONFIG_FAULTS = [
    ("head-dim", LLM_FP8, drop_key("head_dim")),
    ("head-dim", EDGE_INT8, set_key("head_dim", 32)),
    ("head-dim", LEGACY_FP8, drop_key("head_size")),
    ("rope-theta", LLM_FP8, drop_key("rope_theta", "rope_parameters")),
    ("rope-theta", EDGE_FP8, drop_key("rope_theta")),
    ("rope-theta", VLLM_FP8, set_key("rope_theta", 10000.0)),
    ("rotary-base", LEGACY_INT8, drop_key("rotary_base")),
    ("attn-bias", LEGACY_INT8, drop_key("attn_bias")),
    ("hidden-act", LEGACY_INT8, drop_key("hidden_act")),
    ("position-embedding", LEGACY_INT8, drop_key("position_embedding_type")),
    ("qwen-type", LEGACY_FP8, drop_key("qwen_type")),
    ("configs-differ", VLLM_FP8, lambda document: document["quantization_config"].pop("kv_cache_scheme")),
]


@pytest.mark.parametrize(("rule", "kind", "edit"), CONFIG_FAULTS)
def test_fault_of_the_configuration(
    sound: Sound, rule: str, kind: tuple[str, str, str], edit: Callable[[Document], object]
) -> None:
    path = sound(kind)
    edit_json(path / "config.json", edit)
    assert rules(path, kind[0]) == [rule]


def set_quantization(key: str, value: object) -> Callable[[Document], object]:
    return lambda document: document["quantization"].__setitem__(key, value)


QUANTIZATION_FAULTS = [
    ("lm-head-excluded", EDGE_FP8, set_quantization("exclude_modules", [])),
    ("int4-symmetric", LLM_INT4, set_quantization("has_zero_point", True)),
    ("int4-groups", LLM_INT4, set_quantization("group_size", 64)),
    ("kv-claimed", EDGE_FP8, set_quantization("kv_cache_quant_algo", None)),
    ("kv-int8", EDGE_INT8, set_quantization("kv_cache_quant_algo", "INT8")),
    ("algorithm", EDGE_INT8, set_quantization("quant_algo", "W8A16")),
    ("algorithm", VLLM_FP8, set_quantization("quant_algo", "W4A16_AWQ")),
]


@pytest.mark.parametrize(("rule", "kind", "edit"), QUANTIZATION_FAULTS)
def test_fault_of_what_is_said_to_be_quantized(
    sound: Sound, rule: str, kind: tuple[str, str, str], edit: Callable[[Document], object]
) -> None:
    path = sound(kind)
    edit_json(path / "hf_quant_config.json", edit)
    assert rule in rules(path, kind[0])


# --- Faults of the tensors


Q, K, OUT, UP = (
    "model.layers.0." + name for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj")
)
QKV, DENSE = "transformer.layers.0.attention.qkv", "transformer.layers.0.attention.dense"


def drop(*names: str) -> Callable[[Tensors], object]:
    return lambda tensors: [tensors.pop(name) for name in names]


def put(name: str, value: Any, dtype: Any = np.float32) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.__setitem__(name, np.array(value, dtype))


def plant_nan(tensors: Tensors) -> None:
    codes = tensors[f"{UP}.weight"].view(np.uint8).copy()
    codes[3, 4] = 0x7F
    tensors[f"{UP}.weight"] = codes.view(ml_dtypes.float8_e4m3fn)


def store_floats(tensors: Tensors) -> None:
    tensors[f"{UP}.weight"] = tensors[f"{UP}.weight"].astype(np.float32).astype(np.float16)


TENSOR_FAULTS = [
    ("input-scale", EDGE_FP8, drop(f"{OUT}.input_scale")),
    ("input-scale", VLLM_FP8, drop(f"{Q}.input_scale")),
    ("input-scales-equal", LLM_FP8, put(f"{K}.input_scale", 0.125)),
    ("input-scales-equal", EDGE_INT8, put(f"{UP}.input_scale", 0.125)),
    ("kv-scales", EDGE_FP8, drop(f"{K}.k_scale")),
    ("kv-scales", LEGACY_FP8, drop("transformer.layers.0.attention.kv_cache_scaling_factor")),
    ("kv-scale-large", LLM_FP8, put(f"{K}.k_scale", 0.69)),
    ("scale-positive", LLM_FP8, put(f"{OUT}.weight_scale", 0.0)),
    ("scale-positive", VLLM_FP8, put(f"{K}.k_scale", np.nan)),
    ("weight-scale", LLM_INT4, drop(f"{OUT}.weight_scale")),
    ("fp8-nan", VLLM_FP8, plant_nan),
    ("weight-type", LLM_FP8, store_floats),
    ("block-scales", VLLM_FP8, put(f"{Q}.weight_scale_inv", [[1.0]])),
    ("factors-missing", LLM_INT4, drop(f"{OUT}.pre_quant_scale")),
    ("factors-ignored", LLM_INT4, put(f"{UP}.pre_quant_scale", np.full(128, 2), np.float16)),
    ("int4-symmetric", LLM_INT4, put(f"{UP}.qzeros", [1], np.int8)),
    ("missing-tensor", LEGACY_FP8, drop("transformer.ln_f.weight")),
    ("missing-tensor", LEGACY_INT8, drop(f"{DENSE}.weight")),
    ("interleaved", LEGACY_INT8, put(f"{QKV}.weight", np.zeros((512, 128)), np.int8)),
]


@pytest.mark.parametrize(("rule", "kind", "edit"), TENSOR_FAULTS)
def test_fault_of_the_tensors(
    sound: Sound, rule: str, kind: tuple[str, str, str], edit: Callable[[Tensors], object]
) -> None:
    path = sound(kind)
    edit_tensors(path, edit)
    assert set(rules(path, kind[0])) == {rule}


def test_factors_of_joined_products_differ(sound: Sound) -> None:
    path = sound(EDGE_INT8)

    def edit(tensors: Tensors) -> None:
        for number, name in enumerate((Q, K)):
            tensors[f"{name}.pre_quant_scale"] = np.full(128, 1 + number, np.float16)

    edit_tensors(path, edit)
    assert rules(path, "edge-llm") == ["factors-equal"]


@pytest.mark.parametrize("device", ["agx-orin", "a100"])
@pytest.mark.parametrize(("kind", "expected"), [(EDGE_FP8, ["device-fp8"]), (EDGE_INT8, [])])
def test_fp8_for_a_gpu_without_it(sound: Sound, device: str, kind: tuple[str, str, str], expected: list[str]) -> None:
    assert rules(sound(kind), "edge-llm", device) == expected


def test_cache_that_edge_llm_drops(sound: Sound) -> None:
    """A directory for TensorRT-LLM, whose reader has no such fault."""
    path = sound(("tensorrt-llm", "int4", "fp8"))
    assert rules(path, "tensorrt-llm") == []
    assert rules(path, "edge-llm") == ["kv-dropped"]


def test_cache_quantized_alone_is_refused_by_vllm(sound: Sound) -> None:
    path = sound(VLLM_FP8)
    edit_json(path / "hf_quant_config.json", set_quantization("quant_algo", None))
    assert "kv-alone" in rules(path, "vllm")


def test_server_without_tokenizer(sound: Sound) -> None:
    path = sound(VLLM_FP8)
    (path / "tokenizer.json").unlink()
    assert rules(path, "vllm") == ["tokenizer"]


# --- What is no directory, and how it is said


def test_faults_are_errors_and_warnings_are_not(sound: Sound) -> None:
    path = sound(LLM_FP8)
    edit_tensors(path, put(f"{K}.k_scale", 0.69))
    assert [finding.rule for finding in require_sound(path, "tensorrt-llm")] == ["kv-scale-large"]
    edit_json(path / "config.json", drop_key("head_dim"))
    with pytest.raises(
        CheckpointInvalid, match=r'1 fault for --for tensorrt-llm:\n  \[head-dim\] .*Set "head_dim" to 64'
    ):
        require_sound(path, "tensorrt-llm")


def test_findings_name_the_directory_that_is_being_made(sound: Sound, tmp_path: Path) -> None:
    path, output = sound(VLLM_FP8), tmp_path / "output"
    edit_json(path / "config.json", drop_key("rope_theta"))
    assert [finding.where for finding in require_sound(path, "vllm", output=output)] == [f"{output / 'config.json'}"]
    edit_json(path / "config.json", drop_key("head_dim"))
    with pytest.raises(CheckpointInvalid) as caught:
        require_sound(path, "vllm", output=output)
    assert f"{output}: 1 fault" in str(caught.value)
    assert str(path) not in str(caught.value)


def test_foreign_files(sound: Sound, tmp_path: Path) -> None:
    with pytest.raises(CheckpointInvalid, match=r"has no config\.json"):
        inspect_directory(tmp_path, "vllm")
    path = sound(VLLM_FP8)
    with pytest.raises(OptionInvalid, match="for must be one of"):
        inspect_directory(path, "ollama")
    with pytest.raises(OptionInvalid, match="device must be one of"):
        inspect_directory(path, "vllm", "abacus")
    weights = path / "model.safetensors"
    weights.unlink()
    with pytest.raises(CheckpointInvalid, match=r"has no \*\.safetensors"):
        inspect_directory(path, "vllm")
    (path / "config.json").write_text("[]")
    with pytest.raises(CheckpointInvalid, match="holds a JSON list, expected an object"):
        inspect_directory(path, "vllm")
