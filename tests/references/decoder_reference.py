"""A decoder in plain numpy, and readers of quantized directories, written from the formats' documents.

Nothing of the exporter is used here: what it writes is read the way its readers describe it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
DTYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I8": np.int8,
    "U8": np.uint8,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
}


def read_safetensors(path: Path) -> dict[str, Array]:
    """The tensors of a file, by its format: a length, a JSON header, bytes."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, facts in header.items():
        start, stop = (8 + length + place for place in facts["data_offsets"])
        tensors[name] = np.frombuffer(data[start:stop], DTYPES[facts["dtype"]]).reshape(facts["shape"])
    return tensors


def read_directory(path: Path) -> dict[str, Array]:
    """The tensors of all weight files."""
    return {
        name: tensor for file in sorted(path.glob("*.safetensors")) for name, tensor in read_safetensors(file).items()
    }


@dataclass
class Matrix:
    """A matrix as floats, and what is done to its inputs: scaled, then rounded."""

    weight: Array
    before: Array | None = None
    round_input: Callable[[Array], Array] | None = None

    def __call__(self, x: Array) -> Array:
        if self.before is not None:
            x = x * self.before
        if self.round_input is not None:
            x = self.round_input(x)
        return x @ self.weight.T


@dataclass
class Decoder:
    """Sizes and weights of a decoder."""

    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    theta: float
    embedding: Array
    head: Matrix
    final_norm: Array
    layers: list[dict[str, Any]]

    def logits(self, ids: list[int]) -> Array:
        """Logits [tokens, vocabulary] of one sequence."""
        x = self.embedding[ids]
        for layer in self.layers:
            x = x + self.attention(self.norm(x, layer["input_norm"]), layer)
            normed = self.norm(x, layer["post_norm"])
            gate = layer["gate"](normed)
            x = x + layer["down"](gate / (1 + np.exp(-gate)) * layer["up"](normed))
        return self.head(self.norm(x, self.final_norm))

    def attention(self, x: Array, layer: dict[str, Any]) -> Array:
        count = len(x)
        q = layer["q"](x).reshape(count, self.heads, self.head_dim)
        k, v = (layer[part](x).reshape(count, self.kv_heads, self.head_dim) for part in "kv")
        if "q_norm" in layer:
            q, k = self.norm(q, layer["q_norm"]), self.norm(k, layer["k_norm"])
        q, k = self.rotate(q), self.rotate(k)
        k, v = (np.repeat(part, self.heads // self.kv_heads, axis=1) for part in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(self.head_dim)
        scores = np.where(np.tril(np.ones((count, count), bool)), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return layer["o"](np.einsum("hqk,khd->qhd", shares, v).reshape(count, -1))

    def rotate(self, x: Array) -> Array:
        half = self.head_dim // 2
        angles = np.arange(len(x))[:, None] * self.theta ** (-np.arange(half) / half)
        cos, sin = (np.concatenate([part, part], 1)[:, None] for part in (np.cos(angles), np.sin(angles)))
        turned = np.concatenate([-x[..., half:], x[..., :half]], -1)
        return x * cos + turned * sin

    def norm(self, x: Array, gain: Array) -> Array:
        return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + self.eps) * gain


def floats(tensor: Array) -> Array:
    return tensor.astype(np.float64)


def unpacked_int4(packed: Array, scales: Array) -> Array:
    """[out / 2, in] bytes, low nibble the even row, two's complement; scales [out, groups]."""
    nibbles = np.stack([packed & 15, packed >> 4], 1).reshape(-1, packed.shape[1]).astype(np.int64)
    values = np.where(nibbles > 7, nibbles - 16, nibbles)
    return values * np.repeat(floats(scales), packed.shape[1] // scales.shape[1], 1)


def round_fp8(scale: float) -> Callable[[Array], Array]:
    return lambda x: floats(np.clip(x / scale, -448, 448).astype(np.float32).astype(ml_dtypes.float8_e4m3fn)) * scale


def round_int8(scale: float) -> Callable[[Array], Array]:
    return lambda x: np.clip(np.rint(x / scale), -128, 127) * scale


def read_matrix(tensors: dict[str, Array], prefix: str, names: tuple[str, str, str], algorithm: str | None) -> Matrix:
    """A product by its prefix; `names` are those of the weight's scale, the input's scale and the factors before."""
    weight = tensors[f"{prefix}.weight"]
    scale, before = tensors.get(f"{prefix}.{names[0]}"), tensors.get(f"{prefix}.{names[2]}")
    of_input = tensors.get(f"{prefix}.{names[1]}")
    if scale is None:
        assert weight.dtype in (np.float16, np.dtype(ml_dtypes.bfloat16))
        return Matrix(floats(weight))
    assert scale.dtype == np.float32
    if algorithm == "W4A16_AWQ":
        assert weight.dtype == np.uint8
        return Matrix(unpacked_int4(weight, scale), None if before is None else floats(before))
    if algorithm == "FP8":
        assert weight.dtype == ml_dtypes.float8_e4m3fn
        assert scale.size == 1
        rounding = None if of_input is None else round_fp8(float(of_input.reshape(())))
        return Matrix(floats(weight) * float(scale.reshape(())), None, rounding)
    assert weight.dtype == np.int8
    rounding = None if of_input is None else round_int8(float(of_input.reshape(())))
    return Matrix(floats(weight) * floats(scale)[:, None], None if before is None else floats(before), rounding)


UNIFIED = ("weight_scale", "input_scale", "pre_quant_scale")
LEGACY = ("weights_scaling_factor", "activation_scaling_factor", "prequant_scaling_factor")


def read_unified(path: Path) -> Decoder:
    """A directory in ModelOpt's form."""
    config, tensors = json.loads((path / "config.json").read_text()), read_directory(path)
    file = path / "hf_quant_config.json"
    algorithm = json.loads(file.read_text())["quantization"]["quant_algo"] if file.exists() else None
    layers = []
    for number in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{number}."
        layer: dict[str, Any] = {
            "input_norm": floats(tensors[f"{prefix}input_layernorm.weight"]),
            "post_norm": floats(tensors[f"{prefix}post_attention_layernorm.weight"]),
        }
        for part in "qkvo":
            layer[part] = read_matrix(tensors, f"{prefix}self_attn.{part}_proj", UNIFIED, algorithm)
        for part in ("gate", "up", "down"):
            layer[part] = read_matrix(tensors, f"{prefix}mlp.{part}_proj", UNIFIED, algorithm)
        for part in "qk":
            if (name := f"{prefix}self_attn.{part}_norm.weight") in tensors:
                layer[f"{part}_norm"] = floats(tensors[name])
        layers.append(layer)
    embedding = floats(tensors["model.embed_tokens.weight"])
    has_head = "lm_head.weight" in tensors
    head = read_matrix(tensors, "lm_head", UNIFIED, algorithm) if has_head else Matrix(embedding)
    return Decoder(
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        eps=config["rms_norm_eps"],
        theta=config["rope_theta"],
        embedding=embedding,
        head=head,
        final_norm=floats(tensors["model.norm.weight"]),
        layers=layers,
    )


def read_legacy(path: Path) -> Decoder:
    """A checkpoint of TensorRT-LLM 1.2, with that reader's defaults where the configuration is silent."""
    config, tensors = json.loads((path / "config.json").read_text()), read_safetensors(path / "rank0.safetensors")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_size", config["hidden_size"] // heads)
    algorithm = config["quantization"]["quant_algo"]
    stored = None if algorithm == "W8A16" else algorithm  # stored as floats
    assert config.get("attn_bias", True) is False
    layers = []
    for number in range(config["num_hidden_layers"]):
        prefix = f"transformer.layers.{number}."
        fused = read_matrix(tensors, f"{prefix}attention.qkv", LEGACY, stored)
        bounds = np.cumsum([heads * head_dim, kv_heads * head_dim])
        layer: dict[str, Any] = {
            "input_norm": floats(tensors[f"{prefix}input_layernorm.weight"]),
            "post_norm": floats(tensors[f"{prefix}post_layernorm.weight"]),
            **{
                part: Matrix(weight, fused.before, fused.round_input)
                for part, weight in zip("qkv", np.split(fused.weight, bounds), strict=True)
            },
            "o": read_matrix(tensors, f"{prefix}attention.dense", LEGACY, stored),
            "gate": read_matrix(tensors, f"{prefix}mlp.fc", LEGACY, stored),
            "up": read_matrix(tensors, f"{prefix}mlp.gate", LEGACY, stored),
            "down": read_matrix(tensors, f"{prefix}mlp.proj", LEGACY, stored),
        }
        if config.get("qwen_type") == "qwen3":
            for part in "qk":
                layer[f"{part}_norm"] = floats(tensors[f"{prefix}attention.{part}_layernorm.weight"])
        layers.append(layer)
    return Decoder(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        eps=config.get("norm_epsilon", 1e-5),
        theta=config.get("rotary_base", 1e4),
        embedding=floats(tensors["transformer.vocab_embedding.weight"]),
        head=Matrix(floats(tensors["lm_head.weight"])),
        final_norm=floats(tensors["transformer.ln_f.weight"]),
        layers=layers,
    )
