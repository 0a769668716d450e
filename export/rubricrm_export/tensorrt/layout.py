"""The tensors of a directory under the names of its reader: ModelOpt's unified form, or TensorRT-LLM 1.2's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rubricrm_export.calibrate.layer_tensors import (
    DOWN_PROJ,
    GATE_PROJ,
    GROUPS,
    INPUT_NORM,
    K_NORM,
    K_PROJ,
    O_PROJ,
    POST_NORM,
    Q_NORM,
    Q_PROJ,
    UP_PROJ,
    V_PROJ,
)
from rubricrm_export.checkpoint.architecture import EMBEDDING, LM_HEAD
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.tensorrt.float_type import FloatType
from rubricrm_export.tensorrt.linear import FloatMatrices, Linear, ScaleNames, Storage
from rubricrm_export.tensorrt.weight_file import WeightTensor, small_tensor

Float = NDArray[np.float32]

UNIFIED_SCALES = ScaleNames("weight_scale", "input_scale", "pre_quant_scale", ())
LLM_SCALES = ScaleNames("weights_scaling_factor", "activation_scaling_factor", "prequant_scaling_factor", (1,))

FINAL_NORM = "model.norm.weight"


@dataclass(frozen=True)
class Parts:
    """What a layout puts in order.

    Attributes:
        checkpoint: Sizes, and what stays floats.
        norms: Every norm by its name in the checkpoint, with what calibration folded into it.
        kv_scales: Scales of keys and values of each layer; empty: they are not quantized.
        matrices: How matrices of the layers are stored.
        head: How the output head is stored; None: it is the embedding.
        float_type: Of what is not quantized.
    """

    checkpoint: Checkpoint
    norms: Mapping[str, Float]
    kv_scales: list[tuple[float, float]]
    matrices: Storage
    head: Storage | None
    float_type: FloatType

    def linear(self, prefix: str, *sources: str, group: tuple[str, ...] = ()) -> Linear:
        """Return a product of matrices of the checkpoint."""
        shapes = [self.checkpoint.tensor(name).shape for name in sources]
        return Linear(prefix, sources, group or sources, (sum(shape[0] for shape in shapes), shapes[0][1]))

    def floats(self, prefix: str, source: str) -> list[WeightTensor]:
        """Return a matrix of the checkpoint as floats."""
        return FloatMatrices(self.checkpoint, self.float_type).tensors(self.linear(prefix, source))

    def norm(self, name: str, source: str) -> WeightTensor:
        """Return a norm under its reader's name."""
        return self.float_type.tensor(name, self.norms[source])


def unified_tensors(parts: Parts) -> list[WeightTensor]:
    """Return the tensors of ModelOpt's form: Hugging Face's names, scales beside the weights they belong to."""
    tensors = parts.floats("model.embed_tokens", EMBEDDING)
    for layer in range(parts.checkpoint.architecture.num_layers):
        tensors += _unified_layer(parts, layer)
    tensors.append(parts.norm(FINAL_NORM, FINAL_NORM))
    if parts.head is not None:
        tensors += parts.head.tensors(parts.linear("lm_head", LM_HEAD))
    return tensors


def _unified_layer(parts: Parts, layer: int) -> Iterator[WeightTensor]:
    prefix = f"model.layers.{layer}."
    for group in GROUPS:
        names = tuple(prefix + name for name in group.matrices)
        for name in names:
            yield from parts.matrices.tensors(parts.linear(name.removesuffix(".weight"), name, group=names))
    for name in (INPUT_NORM, POST_NORM, Q_NORM, K_NORM):
        if prefix + name in parts.norms:
            yield parts.norm(prefix + name, prefix + name)
    if parts.kv_scales:
        for part, scale in zip("kv", parts.kv_scales[layer], strict=True):
            yield small_tensor(f"{prefix}self_attn.{part}_proj.{part}_scale", np.array(scale, np.float32))


# The activated half of a gated MLP is "fc" there, and the other one "gate".
_LLM_LINEARS = (
    ("attention.qkv", (Q_PROJ, K_PROJ, V_PROJ), (Q_PROJ, K_PROJ, V_PROJ)),
    ("attention.dense", (O_PROJ,), (O_PROJ,)),
    ("mlp.fc", (GATE_PROJ,), (GATE_PROJ, UP_PROJ)),
    ("mlp.gate", (UP_PROJ,), (GATE_PROJ, UP_PROJ)),
    ("mlp.proj", (DOWN_PROJ,), (DOWN_PROJ,)),
)
_LLM_NORMS = (
    ("input_layernorm.weight", INPUT_NORM),
    ("post_layernorm.weight", POST_NORM),
    ("attention.q_layernorm.weight", Q_NORM),
    ("attention.k_layernorm.weight", K_NORM),
)


def llm_tensors(parts: Parts) -> list[WeightTensor]:
    """Return the tensors of rank0.safetensors for TensorRT-LLM 1.2 on one GPU."""
    tensors = parts.floats("transformer.vocab_embedding", EMBEDDING)
    for layer in range(parts.checkpoint.architecture.num_layers):
        tensors += _llm_layer(parts, layer)
    tensors.append(parts.norm("transformer.ln_f.weight", FINAL_NORM))
    tensors += parts.floats("lm_head", LM_HEAD)  # a tied one is stored twice
    return tensors


def _llm_layer(parts: Parts, layer: int) -> Iterator[WeightTensor]:
    source, prefix = f"model.layers.{layer}.", f"transformer.layers.{layer}."
    for name, matrices, group in _LLM_LINEARS:
        sources = (source + matrix for matrix in matrices)
        yield from parts.matrices.tensors(
            parts.linear(prefix + name, *sources, group=tuple(source + matrix for matrix in group))
        )
    for name, norm in _LLM_NORMS:
        if source + norm in parts.norms:
            yield parts.norm(prefix + name, source + norm)
    if parts.kv_scales:  # one for both
        scale = np.full(1, max(parts.kv_scales[layer]), np.float32)
        yield small_tensor(f"{prefix}attention.kv_cache_scaling_factor", scale)
