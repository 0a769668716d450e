"""The demo model for llama.cpp: `python tests/references/demo_gguf.py models/demo/checkpoint TARGET.gguf`.

All weights are float32, so that llama.cpp computes what a float32 bundle computes, up to the order of sums. It takes
checkpoints of Qwen3 in BF16, which is what the demo model is; a Llama's queries and keys would have to be permuted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

_NORMAL, _CONTROL, _UNUSED = 1, 3, 5


def write_gguf(checkpoint: Path, target: Path) -> Path:
    """Write a checkpoint as GGUF in float32, and return where."""
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["Qwen3ForCausalLM"], config["architectures"]
    architecture = gguf.MODEL_ARCH.QWEN3
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_eos_token_id(config["eos_token_id"])
    _add_tokenizer(writer, checkpoint, config["vocab_size"])
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    for path in sorted(checkpoint.glob("*.safetensors")):
        for name, tensor in _tensors(path):
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _add_tokenizer(writer: Any, checkpoint: Path, vocab_size: int) -> None:
    document = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))
    tokens = {token_id: (text, _NORMAL) for text, token_id in document["model"]["vocab"].items()}
    tokens |= {entry["id"]: (entry["content"], _CONTROL) for entry in document["added_tokens"]}
    listed = [tokens.get(token_id, (f"[unused{token_id}]", _UNUSED)) for token_id in range(vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([text for text, _ in listed])
    writer.add_token_types([kind for _, kind in listed])
    merges = document["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_add_bos_token(False)


def _tensors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield names and float32 arrays; numpy has no BF16, so the bytes are widened here."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    header_size = int.from_bytes(bytes(data[:8]), "little")
    header = json.loads(bytes(data[8 : 8 + header_size]))
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        assert facts["dtype"] == "BF16", (name, facts["dtype"])
        start, stop = facts["data_offsets"]
        halves = data[8 + header_size + start : 8 + header_size + stop].view(np.uint16)
        wide: NDArray[np.float32] = (halves.astype(np.uint32) << 16).view(np.float32)
        yield name, wide.reshape(facts["shape"])


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
