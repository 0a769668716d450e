"""Configurations and templates of public bug reports, beside the checkout: what each of them is read as."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.checkpoint.chat_pieces import read_chat
from rubricrm_export.checkpoint.chat_template import ChatTemplate
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.checkpoint.stop_ids import read_stop_ids
from rubricrm_export.errors import CheckpointUnsupported

MakeCheckpoint = Callable[..., Path]

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT.parent / "shared" / "data" / "outside" / "checkpoint_files"
DEMO = ROOT / "models" / "demo" / "checkpoint"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases lie beside the checkout, and are not there")


def test_stop_ids_of_a_fine_tune_whose_configurations_were_rewritten() -> None:
    tokenizer = Tokenizer.from_file(DEMO / "tokenizer.json")
    folder = CASES / "demo_eos"
    config, generation_config = (
        json.loads((folder / name).read_text()) for name in ("config.json", "generation_config.json")
    )
    stop_ids = read_stop_ids(folder, config, generation_config, tokenizer, ChatTemplate.read(folder))
    assert stop_ids == (tokenizer.added_tokens["<|endoftext|>"], tokenizer.added_tokens["<|im_end|>"])


def test_template_that_always_opens_a_thought() -> None:
    chat = read_chat(CASES / "thinking_template", None, ["<|im_start|>", "<|im_end|>"])
    assert chat.generation == "<|im_start|>assistant\n<think>\n"
    assert chat.starts_in_thought


def test_template_of_another_tokenizer_class() -> None:
    chat = read_chat(CASES / "tokenizers_backend", None, ["<|im_start|>", "<|im_end|>"])
    assert not chat.starts_in_thought


def test_llama_without_architectures() -> None:
    config = json.loads((CASES / "llama_no_kv_heads" / "config.json").read_text())
    for absent in ((), ("num_key_value_heads", "rope_theta")):
        kept = {key: value for key, value in config.items() if key not in absent}
        found = Architecture.from_config(kept, "config.json")
        assert (found.name, found.num_kv_heads, found.rope_theta) == ("LlamaForCausalLM", 4, 10000.0)


@pytest.mark.parametrize(
    ("case", "method"), [("qwen3_fp8_official", "fp8"), ("compressed_tensors", "compressed-tensors")]
)
def test_checkpoint_that_is_quantized_already(make_checkpoint: MakeCheckpoint, case: str, method: str) -> None:
    path = make_checkpoint()
    shutil.copy(CASES / case / "config.json", path / "config.json")
    with pytest.raises(CheckpointUnsupported, match=f"is quantized by {method}, expected BF16, F16 or F32"):
        Checkpoint.open(path)
