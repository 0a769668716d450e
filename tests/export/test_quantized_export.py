"""Quantized bundles: what they compute is what was stored, and what they lost is what was measured."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from rubricrm import RubricModel
from rubricrm.bundle import Bundle
from rubricrm.errors import CheckpointInvalid, QualityTooLow
from rubricrm.session import Session
from rubricrm_export.onnx_export import OnnxExport, export_onnx
from safetensors.numpy import load_file, save_file

MakeCheckpoint = Callable[..., Path]
Float = NDArray[np.float32]

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
IDS = [int(token) for token in np.random.default_rng(0).integers(5, 261, 40)]
LINE = "The response {} should say what it does, and why.\n"
TEXT_IDS = [5 + byte for byte in LINE.format(3).encode()][:40]  # five special tokens, then one token a byte


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file to calibrate on: 3 sequences of bytes."""
    path = tmp_path / "text.txt"
    path.write_text("".join(LINE.format(number) for number in range(40)))
    return path


def export(checkpoint: Path, text: Path, name: str = "bundle", **options: Any) -> Bundle:
    options = {"calibration": str(text), "eval_text": text, "rubrics": False} | options
    return export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / name, **options))


def logits_of(bundle: Bundle, ids: Sequence[int] = IDS) -> Float:
    session = Session(bundle, threads=1)
    logits = session.run(session.new_slot(64), ids, rows=len(ids))
    session.close()
    return logits


def relative(got: Float, expected: Float) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def stored_tensors(bundle: Bundle) -> dict[str, NDArray[Any]]:
    graph = onnx.load(bundle.path / "model.onnx").graph
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def dequantized(stored: dict[str, NDArray[Any]], name: str, width: int, block_size: int, bits: int) -> Float:
    """A matrix of MatMulNBits, unpacked by the operator's description and nothing of the code under test."""
    codes = stored[f"{name}.codes"]
    rows, blocks, _ = codes.shape
    flat = codes.reshape(rows, blocks, -1)
    if bits == 4:
        flat = np.stack([flat & 15, flat >> 4], -1).reshape(rows, blocks, -1)
    zeros = np.full((rows, blocks), 1 << (bits - 1))
    if f"{name}.zero_points" in stored:
        packed = stored[f"{name}.zero_points"]
        zeros = np.stack([packed & 15, packed >> 4], -1).reshape(rows, -1)[:, :blocks]
    values = (flat.astype(np.float32) - zeros[..., None]) * stored[f"{name}.scales"].reshape(rows, blocks, 1)
    assert flat.shape[2] == block_size
    return values.reshape(rows, -1)[:, :width].astype(np.float32)


# --- what is computed is what is stored


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
@pytest.mark.parametrize(("weights", "bits", "block"), [("int4", 4, 64), ("int8", 8, 32)])
@pytest.mark.parametrize(("architecture", "tied"), [("Qwen3ForCausalLM", True), ("LlamaForCausalLM", False)])
def test_logits_are_those_of_the_stored_numbers(
    make_checkpoint: MakeCheckpoint,
    text: Path,
    architecture: str,
    tied: bool,
    weights: str,
    bits: int,
    block: int,
    method: str,
) -> None:
    checkpoint = make_checkpoint(architecture, dtype="F32", tie_word_embeddings=tied)
    bundle = export(checkpoint, text, weights=weights, method=method, block_size=str(block))
    stored = stored_tensors(bundle)
    tensors = load_file(checkpoint / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.ndim == 1:
            tensors[name] = stored[name]
        else:
            size = 32 if name in (EMBEDDING, HEAD) else block
            tensors[name] = dequantized(stored, name, tensor.shape[1], size, bits)
    twin = make_checkpoint(architecture, dtype="F32", tie_word_embeddings=tied, name="twin")
    save_file(tensors, twin / "model.safetensors", metadata={"format": "pt"})
    expected = logits_of(export_onnx(OnnxExport(str(twin), twin.parent / "float", weights="fp32")))
    # MatMulNBits rounds its inputs to 8 bits: half a percent a product.
    assert relative(logits_of(bundle), expected) < 0.03


@pytest.mark.parametrize("block_size", ["128", "channel"])
def test_fp8_is_stored_as_its_reference_casts_it(make_checkpoint: MakeCheckpoint, text: Path, block_size: str) -> None:
    checkpoint = make_checkpoint(dtype="F32")
    bundle = export(checkpoint, text, weights="fp8", block_size=block_size)
    tensors = load_file(checkpoint / "model.safetensors")
    stored = stored_tensors(bundle)
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and name != EMBEDDING:
            scales = stored[f"{name}.scales"].reshape(-1, 1)
            np.testing.assert_allclose(scales[:, 0], np.abs(tensor).max(1) / 448, rtol=1e-6)
            wanted = np.clip(tensor / scales, -448, 448).astype(ml_dtypes.float8_e4m3fn)
            assert stored[f"{name}.codes"].view(np.uint8).tobytes() == wanted.view(np.uint8).tobytes()
            tensors[name] = wanted.astype(np.float32) * scales
    twin = make_checkpoint(dtype="F32", name="twin")
    save_file(tensors, twin / "model.safetensors", metadata={"format": "pt"})
    expected = logits_of(export_onnx(OnnxExport(str(twin), twin.parent / "float", weights="fp32")))
    assert relative(logits_of(bundle), expected) < 1e-5
    assert bundle.manifest.quality is not None
    assert bundle.manifest.quality["kl"] < 0.01


@pytest.mark.parametrize("kv", ["int8", "int8-tensor"])
@pytest.mark.parametrize("weights", [None, "int4", "fp8"])
def test_bundles_with_a_quantized_cache_generate(
    make_checkpoint: MakeCheckpoint, text: Path, weights: str | None, kv: str
) -> None:
    checkpoint = make_checkpoint()
    bundle = export(checkpoint, text, weights=weights, kv=kv)
    assert bundle.manifest.graph.kv_type == bundle.manifest.quantization.kv_cache == "int8"
    with RubricModel.open(bundle.path, threads=1) as model:
        assert model.generate("Write a haiku.", max_new_tokens=5).usage.completion_tokens >= 1
    whole = export(checkpoint, text, name="whole", weights=weights)
    # Tokens of the calibration text: keys and values that it never met are clipped.
    assert relative(*(logits_of(model, TEXT_IDS) for model in (bundle, whole))) < 0.05


def test_keys_are_not_clipped_at_later_positions(make_checkpoint: MakeCheckpoint, text: Path) -> None:
    """The slowest channels of a key hardly turn within a calibration text: their scales must bear more."""
    checkpoint = make_checkpoint(max_position_embeddings=8192, num_hidden_layers=1)
    bundle = export(checkpoint, text, weights="fp32", kv="int8")
    session = Session(bundle, threads=1)
    slot = session.new_slot(4096)
    for start in range(0, 4096, 256):
        session.run(slot, [TEXT_IDS[(start + i) % 40] for i in range(256)])
    keys = slot.cache.positions(4096)[0, 0, 0]  # [kv_heads, positions, head_dim]
    assert (np.abs(keys.astype(np.int16)) == 127).mean() < 1e-3


# --- files and figures


def test_a_tied_head_shares_the_bytes_of_the_embedding(make_checkpoint: MakeCheckpoint, text: Path) -> None:
    bundle = export(make_checkpoint(), text, weights="int4")
    spans = {}
    for tensor in onnx.load(bundle.path / "model.onnx", load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            spans[tensor.name] = (int(place["offset"]), int(place["offset"]) + int(place["length"]))
    assert spans.pop(f"{EMBEDDING}.rows") == spans[f"{EMBEDDING}.codes"]
    assert all(end <= start for (_, end), (start, _) in pairwise(sorted(spans.values())))


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "int4"},
        {"weights": "int8", "activations": "int8"},
        {"weights": "int4", "method": "gptq", "kv": "int8"},
    ],
    ids=str,
)
def test_two_exports_are_equal(make_checkpoint: MakeCheckpoint, text: Path, options: dict[str, Any]) -> None:
    checkpoint = make_checkpoint()
    first, second = (export(checkpoint, text, name=name, **options) for name in ("first", "second"))
    for name in first.manifest.files:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    assert first.manifest == second.manifest


def test_the_manifest_states_what_was_measured(make_checkpoint: MakeCheckpoint, text: Path) -> None:
    bundle = export(make_checkpoint(), text, weights="int4", rubrics=True, eval_text=None)
    quality = bundle.manifest.quality
    assert quality is not None
    assert {"kl", "kl_stderr", "top1_agreement", "perplexity", "reference_perplexity", "num_tokens"} <= set(quality)
    assert 0 < quality["kl"] < 1
    assert Bundle.open(bundle.path, verify=True).manifest.quality == quality


@pytest.mark.parametrize(("limit", "words"), [({"max_kl": 1e-6}, "KL is"), ({"min_top1": 1.0}, "top-1 agreement is")])
def test_a_bundle_that_lost_too_much_is_refused(
    make_checkpoint: MakeCheckpoint, text: Path, limit: dict[str, float], words: str
) -> None:
    checkpoint = make_checkpoint()
    before = sorted(path.name for path in checkpoint.parent.iterdir())
    with pytest.raises(QualityTooLow, match=rf"{words} .*, expected at .*Layers that lose most: "):
        export(checkpoint, text, weights="int4", **limit)
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "options", [{"weights": w} for w in ("int4", "int8", "fp8")] + [{"weights": "int4", "method": "gptq"}], ids=str
)
def test_weight_that_is_no_number(
    make_checkpoint: MakeCheckpoint, text: Path, options: dict[str, Any], value: float
) -> None:
    def damage(tensors: dict[str, Any]) -> None:
        tensors["model.layers.1.self_attn.o_proj.weight"][2, 5] = value

    with pytest.raises(CheckpointInvalid, match=r"layers\.1\.self_attn\.o_proj\.weight. holds (nan|inf) at \[2, 5\]"):
        export(make_checkpoint(change=damage), text, **options)


# --- outliers


@pytest.mark.parametrize("hidden", [64, 256])
def test_smoothquant_wins_back_what_outliers_cost(make_checkpoint: MakeCheckpoint, text: Path, hidden: int) -> None:
    """Some channels of every input are 24 times louder, and their weights as much quieter: the same function."""

    def outliers(tensors: dict[str, Any]) -> None:
        loud = np.random.default_rng(0).permutation(hidden)[:8]
        for name, tensor in tensors.items():
            if name.endswith("layernorm.weight"):
                tensor[loud] *= 24
            elif name.endswith(
                ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")
            ):
                tensor[:, loud] /= 24

    checkpoint = make_checkpoint(change=outliers, hidden_size=hidden, intermediate_size=2 * hidden)
    options = {"weights": "int8", "activations": "int8", "head": "model"}
    lost = {}
    for method in ("rtn", "smoothquant"):
        quality = export(checkpoint, text, name=method, method=method, **options).manifest.quality
        assert quality is not None
        lost[method] = quality["kl"]
    assert lost["smoothquant"] < 0.2 * lost["rtn"]


def test_provenance_names_the_options(make_checkpoint: MakeCheckpoint, text: Path) -> None:
    bundle = export(make_checkpoint(), text, weights="int4", method="gptq", block_size="32", symmetric=True)
    command = json.loads((bundle.path / "rubricrm.json").read_text())["provenance"]["command"]
    assert "--weights int4 --method gptq --block-size 32" in command
    assert "--symmetric" in command
    assert str(text.parent) not in command
