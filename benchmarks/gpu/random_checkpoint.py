"""A checkpoint of a given shape with seeded random weights: nothing is carried to the GPU machine that can be made."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

# Drawn once and repeated from another start in each tensor: four billion draws would take longer than all the rest.
_POOL = 1 << 22
_SCALE = 0.02


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen3 model with a tied head."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int


SHAPES = {
    "tiny": Shape(256, 2, 4, 2, 64, 512, 2048),
    "0.6b": Shape(1024, 28, 16, 8, 128, 3072, 151936),
    "4b": Shape(2560, 36, 32, 8, 128, 9728, 151936),
}


def write_checkpoint(output: Path, shape: Shape, demo: Path) -> None:
    """Write config, weights in BF16, and the demo checkpoint's tokenizer, templates and card.

    The tokenizer has fewer ids than the vocabulary has rows: the others are padding rows, which no runtime chooses.
    Memory: one pool of 16 MiB. The file is written once, front to back.
    """
    output.mkdir(parents=True)
    for path in demo.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copyfile(path, output / path.name)
    config = json.loads((demo / "config.json").read_text("utf-8")) | {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
    }
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    tensors = dict(_tensors(shape))
    with (output / "model.safetensors").open("wb") as file:
        _write_header(file, tensors)
        pool = np.random.default_rng(0).standard_normal(_POOL, np.float32) * _SCALE
        random, ones = _bf16(pool), _bf16(np.ones(_POOL, np.float32))
        for number, (name, tensor_shape) in enumerate(tensors.items()):
            values = ones if name.endswith("norm.weight") else np.roll(random, 7919 * number)
            _write_repeated(file, values, int(np.prod(tensor_shape)))


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, heads, kv = shape.hidden_size, shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    yield "model.embed_tokens.weight", (shape.vocab_size, hidden)
    for layer in range(shape.num_layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.self_attn.q_proj.weight", (heads, hidden)
        yield f"{prefix}.self_attn.k_proj.weight", (kv, hidden)
        yield f"{prefix}.self_attn.v_proj.weight", (kv, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, heads)
        yield f"{prefix}.self_attn.q_norm.weight", (shape.head_dim,)
        yield f"{prefix}.self_attn.k_norm.weight", (shape.head_dim,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        yield f"{prefix}.mlp.gate_proj.weight", (shape.intermediate_size, hidden)
        yield f"{prefix}.mlp.up_proj.weight", (shape.intermediate_size, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, shape.intermediate_size)
    yield "model.norm.weight", (hidden,)


def _write_header(file: BinaryIO, tensors: dict[str, tuple[int, ...]]) -> None:
    header, offset = {}, 0
    for name, shape in tensors.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)


def _write_repeated(file: BinaryIO, values: NDArray[np.uint16], count: int) -> None:
    for start in range(0, count, len(values)):
        file.write(memoryview(values[: count - start]))


def _bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (values.view(np.uint32) >> 16).astype(np.uint16)
