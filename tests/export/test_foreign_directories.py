"""`--check` on directories that others wrote: forms that are not judged, and what is looked at in every form."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.cli import cli
from rubricrm_export.tensorrt.job import TensorRTExport
from rubricrm_export.tensorrt.option_values import READERS
from rubricrm_export.tensorrt.weight_file import StoredTensor, WeightTensor, read_weights_header, write_weights
from rubricrm_export.tensorrt_build.export import export_tensorrt
from rubricrm_export.tensorrt_lint.file_rules import _is_finite
from rubricrm_export.tensorrt_lint.linter import inspect_directory

pytestmark = pytest.mark.usefixtures("one_core")
MakeCheckpoint = Callable[..., Path]
Document = dict[str, Any]

CASES = Path(__file__).parents[3] / "shared" / "data" / "outside" / "checkpoint_files"
NAMES = {np.dtype(t): n for n, t in (("F16", np.float16), ("F32", np.float32), ("I32", np.int32), ("U8", np.uint8))}
NAMES |= {np.dtype(ml_dtypes.bfloat16): "BF16", np.dtype(ml_dtypes.float8_e4m3fn): "F8_E4M3"}

FP8_BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float"}}},
    "ignore": ["lm_head"],
    "kv_cache_scheme": None,
}
BITS_AND_BYTES = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def edit_json(path: Path, edit: Callable[[Document], object]) -> None:
    document = json.loads(path.read_text()) if path.exists() else {}
    edit(document)
    path.write_text(json.dumps(document))


def edit_tensors(directory: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    file = directory / "model.safetensors"
    tensors = {name: np.array(stored.array()) for name, stored in read_weights_header(file).items()}
    edit(tensors)
    parts = [
        WeightTensor(name, NAMES[tensor.dtype], tensor.shape, lambda tensor=tensor: [tensor])  # type: ignore[misc]
        for name, tensor in tensors.items()
        if NAMES[tensor.dtype] != "I32"
    ]
    write_weights(file, parts, {}, lambda _: None)


def quantized(tensors: dict[str, Any], **beside: Any) -> None:
    """Put what a form stores in the place of every matrix of the layers."""
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        shape = tensors.pop(name).shape
        for suffix, (dtype, of_shape) in beside.items():
            tensors[name.removesuffix("weight") + suffix] = np.ones(of_shape(*shape), dtype)


FORMS: dict[str, tuple[Document, dict[str, Any]]] = {
    "fp8": (
        FP8_BLOCKS,
        {
            "weight": (ml_dtypes.float8_e4m3fn, lambda rows, width: (rows, width)),
            "weight_scale_inv": (ml_dtypes.bfloat16, lambda *_: (1, 1)),
        },
    ),
    "awq": (
        AWQ,
        {
            "qweight": (np.uint8, lambda rows, width: (width, rows // 2)),
            "qzeros": (np.uint8, lambda rows, _: (1, rows // 2)),
            "scales": (np.float16, lambda rows, _: (1, rows)),
        },
    ),
    "gptq": (
        GPTQ,
        {
            "qweight": (np.uint8, lambda rows, width: (width // 2, rows)),
            "scales": (np.float16, lambda rows, _: (1, rows)),
        },
    ),
    "compressed-tensors": (
        COMPRESSED,
        {
            "weight": (ml_dtypes.float8_e4m3fn, lambda rows, width: (rows, width)),
            "weight_scale": (ml_dtypes.bfloat16, lambda rows, _: (rows, 1)),
        },
    ),
    "bitsandbytes": (
        BITS_AND_BYTES,
        {
            "weight": (np.uint8, lambda rows, width: (rows * width // 2, 1)),
            "weight.absmax": (np.float32, lambda rows, width: (rows * width // 64,)),
        },
    ),
}


@pytest.fixture
def foreign(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> Callable[[str], Path]:
    """A function that gives a directory in a form."""

    def make(form: str) -> Path:
        path = Path(shutil.copytree(make_checkpoint(), tmp_path / "foreign"))
        config, tensors = FORMS[form]
        edit_json(path / "config.json", lambda document: document.update(quantization_config=config))
        edit_tensors(path, lambda found: quantized(found, **tensors))
        return path

    return make


def check(path: Path, reader: str) -> Result:
    return CliRunner().invoke(cli, ["export", "tensorrt", str(path), "--check", "--for", reader])


def rules(path: Path, reader: str = "vllm") -> list[str]:
    """The rules that found something, but for where the theta stands: transformers 4 writes one place alone."""
    return [finding.rule for finding in inspect_directory(path, reader) if finding.rule != "rope-theta"]


@pytest.mark.parametrize("reader", [reader for reader in READERS if reader != "tensorrt-llm-1.2"])
@pytest.mark.parametrize("form", FORMS)
def test_other_forms_are_not_judged(foreign: Callable[[str], Path], form: str, reader: str) -> None:
    path = foreign(form)
    result = check(path, reader)
    assert result.exit_code == 0, result.output
    assert f'not in ModelOpt\'s form ("quant_method": "{form}"): not judged' in result.output
    assert rules(path, reader) == ["not-judged"]


@pytest.mark.parametrize(
    ("config", "form"),
    [
        ({"quantization_config": {"load_in_8bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"weight_block_size": [128, 128]}}, "fp8"),
        ({"quantization_config": {"config_groups": {}, "format": "pack-quantized"}}, "compressed-tensors"),
        ({"compression_config": {"format": "int-quantized"}}, "compressed-tensors"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
        ({"quantization_config": {"quant_method": "torchao"}}, "torchao"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "mlx"),
        ({"quantization_config": {"group_size": 64, "bits": 4}}, "no quant_method"),
        ({"quantization_config": "fp8"}, "quantization_config 'fp8'"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, "awq"),
    ],
)
def test_how_a_form_is_told(make_checkpoint: MakeCheckpoint, config: Document, form: str) -> None:
    path = make_checkpoint()
    edit_json(path / "config.json", lambda document: document.update(config))
    assert f'"quant_method": "{form}"' in check(path, "vllm").output
    assert rules(path) == ["not-judged"]


@pytest.mark.parametrize(("name", "form"), [("quantize_config.json", "gptq"), ("quant_config.json", "awq")])
def test_files_of_older_tools(make_checkpoint: MakeCheckpoint, name: str, form: str) -> None:
    path = make_checkpoint()
    (path / name).write_text('{"bits": 4}')
    assert f'"quant_method": "{form}"' in check(path, "vllm").output


@pytest.mark.parametrize("algorithm", ["NVFP4", "FP8_PB_WO", "MXFP8", "MIXED_PRECISION", "W4A8_AWQ"])
def test_algorithms_of_modelopt_that_are_not_written_here(make_checkpoint: MakeCheckpoint, algorithm: str) -> None:
    path = make_checkpoint()
    (path / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": algorithm}}))
    assert rules(path) == ["not-judged"]
    assert f'in ModelOpt\'s "{algorithm}", which is not written here: not judged' in check(path, "vllm").output


def test_modelopts_facts_inside_of_config(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """As some of its versions write it: the whole of the other file."""
    path = tmp_path / "out"
    export_tensorrt(TensorRTExport(str(make_checkpoint()), path, "tensorrt-llm", "fp8", calibration="none"))
    whole = json.loads((path / "hf_quant_config.json").read_text())
    (path / "hf_quant_config.json").unlink()
    edit_json(path / "config.json", lambda document: document.update(quantization_config=whole))
    assert rules(path, "tensorrt-llm") == []


def test_two_forms_at_once(foreign: Callable[[str], Path]) -> None:
    path = foreign("fp8")
    (path / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "FP8"}}))
    assert rules(path) == ["configs-differ", "not-judged"]


def test_trtllm_build_reads_its_own_form_alone(foreign: Callable[[str], Path]) -> None:
    assert rules(foreign("fp8"), "tensorrt-llm-1.2") == ["legacy-form"]


def test_floats_without_a_quantization_are_judged(make_checkpoint: MakeCheckpoint) -> None:
    assert rules(make_checkpoint()) == []


def test_block_scales_under_a_form_that_has_none(foreign: Callable[[str], Path]) -> None:
    path = foreign("fp8")
    edit_json(path / "config.json", lambda document: document.pop("quantization_config"))
    assert "block-scales" in rules(path)


def test_products_that_are_excluded_may_be_floats(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    path = tmp_path / "out"
    export_tensorrt(TensorRTExport(str(make_checkpoint()), path, "tensorrt-llm", "fp8", calibration="none"))
    down = "model.layers.1.mlp.down_proj"

    def to_floats(tensors: Document) -> None:
        tensors[f"{down}.weight"] = tensors[f"{down}.weight"].astype(np.float32).astype(np.float16)
        del tensors[f"{down}.weight_scale"]

    edit_tensors(path, to_floats)
    assert rules(path, "tensorrt-llm") == ["weight-type", "weight-scale"]
    for name, key in (("hf_quant_config.json", "quantization"), ("config.json", "quantization_config")):
        where = "exclude_modules" if key == "quantization" else "ignore"
        edit_json(
            path / name,
            lambda document, key=key, where=where: document[key].update({where: ["lm_head", "*.1.mlp.down*"]}),
        )
    assert rules(path, "tensorrt-llm") == []


# --- What is looked at in every form


@pytest.mark.parametrize("form", FORMS)
def test_scales_that_are_no_numbers(foreign: Callable[[str], Path], form: str) -> None:
    path = foreign(form)
    scale = next(name for name in FORMS[form][1] if "scale" in name or "absmax" in name)

    def plant(tensors: Document) -> None:
        tensors[f"model.layers.1.mlp.up_proj.{scale}"].reshape(-1)[0] = np.nan

    edit_tensors(path, plant)
    assert rules(path) == ["scale-positive", "not-judged"]
    assert check(path, "vllm").exit_code == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_numbers(foreign: Callable[[str], Path], value: float) -> None:
    path = foreign("awq")
    edit_tensors(path, lambda tensors: tensors["model.norm.weight"].__setitem__(3, value))
    assert rules(path) == ["not-finite", "not-judged"]


TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}


@pytest.mark.parametrize("dtype", TYPES)
@given(codes=st.lists(st.integers(0, 255), min_size=16, max_size=16))
def test_finite_is_what_numpy_calls_finite(dtype: str, codes: list[int]) -> None:
    values = np.array(codes, np.uint8).view(TYPES[dtype])
    with tempfile.TemporaryDirectory() as folder, np.errstate(invalid="ignore"):
        file = Path(folder) / "f"
        file.write_bytes(values.tobytes())
        stored = StoredTensor(file, dtype, values.shape, 0)
        assert _is_finite(stored) == bool(np.isfinite(values.astype(np.float64)).all())


@pytest.mark.parametrize("reader", ["vllm", "tensorrt-llm"])
def test_damaged_weights_are_a_finding(foreign: Callable[[str], Path], reader: str) -> None:
    path = foreign("gptq")
    file = path / "model.safetensors"
    data = file.read_bytes()
    for contents in (data[:-3], data[:5], b"\xff" * 8 + data[8:], b"", data[:8] + b"not JSON" + data[16:]):
        file.write_bytes(contents)
        result = check(path, reader)
        assert result.exit_code == 2
        assert "[damaged-file]" in result.output
        assert "Traceback" not in result.output
        assert rules(path, reader) == ["damaged-file", "not-judged"]


@pytest.mark.parametrize("name", ["hf_quant_config.json", "generation_config.json", "tokenizer_config.json"])
def test_damaged_json_is_a_finding(make_checkpoint: MakeCheckpoint, name: str) -> None:
    path = make_checkpoint()
    (path / name).write_text("{")
    assert "damaged-file" in rules(path)
    assert check(path, "vllm").exit_code == 2


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("{", "damaged-file"),
        ('{"weight_map": []}', "damaged-file"),
        ('{"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}', "missing-shard"),
        ('{"weight_map": {"nothing": "model.safetensors"}}', "missing-shard"),
    ],
)
def test_an_index_and_its_shards(make_checkpoint: MakeCheckpoint, index: str, expected: str) -> None:
    path = make_checkpoint()
    (path / "model.safetensors.index.json").write_text(index)
    assert rules(path) == [expected]


def test_tokenizers(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    (path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Unheard"}}')
    assert rules(path) == ["tokenizer"]
    (path / "tokenizer.json").unlink()
    assert rules(path) == ["tokenizer"]
    (path / "tokenizer.model").write_bytes(b"sentencepiece")
    assert rules(path) == []


@pytest.mark.parametrize("name", ["TokenizersBackend", "SentencePieceBackend", "PythonBackend", "MistralCommonBackend"])
@pytest.mark.parametrize("reader", READERS)
def test_classes_of_transformers_5(make_checkpoint: MakeCheckpoint, tmp_path: Path, reader: str, name: str) -> None:
    checkpoint = make_checkpoint()
    config = checkpoint / "tokenizer_config.json"
    edit_json(config, lambda document: document.update(tokenizer_class=name, extra_special_tokens=["<think>"]))
    found = [finding for finding in inspect_directory(checkpoint, reader) if finding.rule == "tokenizer-class"]
    assert len(found) == (0 if reader in ("edge-llm", "vllm") else 2)
    assert {finding.is_error for finding in found} <= {reader == "tensorrt-llm-1.2"}
    # What is written here loads in the reader's version.
    weights = "fp16" if reader == "edge-llm" else "bf16"
    path = export_tensorrt(TensorRTExport(str(checkpoint), tmp_path / "out", reader, weights)).path
    written = json.loads((path / "tokenizer_config.json").read_text())
    if reader in ("edge-llm", "vllm"):
        assert written == json.loads(config.read_text())
    else:
        assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert "<think>" in written["additional_special_tokens"]
        assert "extra_special_tokens" not in written
    assert rules(path, reader) == []


def rename_eos(path: Path, ids: object, token: str | None) -> None:
    for name in ("config.json", "generation_config.json"):
        edit_json(path / name, lambda document: document.update(eos_token_id=ids))
    edit_json(path / "tokenizer_config.json", lambda document: document.update(eos_token=token))


def test_stop_id_that_the_template_does_not_write(make_checkpoint: MakeCheckpoint) -> None:
    """<|im_end|> is 2, <|endoftext|> is 0."""
    path = make_checkpoint()
    for ids, token, expected in [
        (0, "<|endoftext|>", ["stop-id"]),
        ([0], None, ["stop-id"]),
        ([0, 2], "<|endoftext|>", []),
        (0, "<|im_end|>", []),
        (None, None, ["no-stop-id"]),
    ]:
        rename_eos(path, ids, token)
        found = [finding for finding in inspect_directory(path, "vllm") if finding.rule != "rope-theta"]
        assert [finding.rule for finding in found] == expected
        assert all("<|im_end|>" in finding.message for finding in found if finding.rule == "stop-id")
        assert check(path, "vllm").exit_code == (2 if "no-stop-id" in expected else 0)


@pytest.mark.parametrize("reader", READERS)
def test_every_directory_names_the_stop_ids_of_its_plan(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, reader: str
) -> None:
    checkpoint = make_checkpoint()
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": [0], "temperature": 0.6}')
    weights = "fp16" if reader == "edge-llm" else "bf16"
    path = export_tensorrt(TensorRTExport(str(checkpoint), tmp_path / "out", reader, weights)).path
    written = json.loads((path / "generation_config.json").read_text())
    assert written == {"eos_token_id": [0, 2], "temperature": 0.6}
    if reader != "tensorrt-llm-1.2":
        assert json.loads((path / "config.json").read_text())["eos_token_id"] == [0, 2]


@pytest.mark.parametrize("reader", READERS)
def test_the_token_that_ends_a_turn_is_a_stop_id(make_checkpoint: MakeCheckpoint, tmp_path: Path, reader: str) -> None:
    checkpoint = make_checkpoint()
    rename_eos(checkpoint, 0, "<|endoftext|>")
    assert "stop-id" in rules(checkpoint, reader)
    weights = "fp16" if reader == "edge-llm" else "bf16"
    path = export_tensorrt(TensorRTExport(str(checkpoint), tmp_path / "out", reader, weights)).path
    assert json.loads((path / "generation_config.json").read_text())["eos_token_id"] == [0, 2]
    assert rules(path, reader) == []


# --- The cases that were collected outside


@pytest.mark.parametrize("case", ["qwen3_fp8_official", "compressed_tensors"])
def test_collected_configs(make_checkpoint: MakeCheckpoint, case: str) -> None:
    if not (CASES / case).is_dir():
        pytest.skip("the collected cases do not lie beside the checkout")
    path = make_checkpoint()
    given = json.loads((CASES / case / "config.json").read_text())["quantization_config"]
    edit_json(path / "config.json", lambda document: document.update(quantization_config=given))
    for reader in ("vllm", "tensorrt-llm", "edge-llm"):
        assert check(path, reader).exit_code == 0
        assert rules(path, reader) == ["not-judged"]
