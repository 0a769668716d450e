"""genai_config.json: exactly the keys that onnxruntime-genai knows, since it refuses any other."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rubricrm.runtime.bundle import Bundle
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from rubricrm_export.onnx_bundle.genai_config import genai_config

MakeCheckpoint = Callable[..., Path]


def test_every_key(tiny_bundle: Path) -> None:
    assert json.loads((tiny_bundle / "genai_config.json").read_text()) == {
        "model": {
            "type": "qwen3",
            "vocab_size": 272,  # the logits' last dimension, padding rows included
            "context_length": 2048,
            "eos_token_id": [0, 2],
            "pad_token_id": 0,
            "decoder": {
                "filename": "model.onnx",
                "head_size": 32,
                "hidden_size": 48,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "num_hidden_layers": 2,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
                "session_options": {"provider_options": []},
            },
        },
        "search": {"do_sample": False, "max_length": 2048, "past_present_share_buffer": True},
    }


@pytest.mark.parametrize(
    ("architecture", "kind"), [("Qwen3ForCausalLM", "qwen3"), ("LlamaForCausalLM", "llama")], ids=["Qwen3", "Llama"]
)
def test_type_names_the_architecture(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, architecture: str, kind: str
) -> None:
    bundle = export_onnx(OnnxExport(str(make_checkpoint(architecture)), tmp_path / "bundle"))
    model = json.loads(genai_config(bundle.manifest))["model"]
    assert model["type"] == kind
    assert model["decoder"]["head_size"] == bundle.manifest.model.head_dim


def test_text_is_that_of_the_manifest(tiny_bundle: Path) -> None:
    text = genai_config(Bundle.open(tiny_bundle).manifest)
    assert (tiny_bundle / "genai_config.json").read_text() == text
    assert text.endswith("}\n")
