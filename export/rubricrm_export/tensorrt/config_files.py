"""The configurations beside the weights: what a reader must be told, and what it would silently get wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rubricrm._version import __version__

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.tensorrt.support import GROUP_SIZE, Choice

_FLOAT8 = {"dynamic": False, "num_bits": 8, "type": "float"}
_INT8 = {"dynamic": False, "num_bits": 8, "type": "int"}
# As ModelOpt describes them (modelopt.torch.export.convert_hf_config).
_GROUPS: Mapping[str, dict[str, Any]] = {
    "FP8": {"input_activations": _FLOAT8, "weights": _FLOAT8},
    "W8A16": {"weights": _INT8},
    "W8A8_SQ_PER_CHANNEL": {"input_activations": _INT8, "weights": {**_INT8, "strategy": "channel"}},
    "W4A16_AWQ": {"weights": {"dynamic": False, "num_bits": 4, "type": "int", "group_size": GROUP_SIZE}},
}
_PRODUCER = {"name": "modelopt", "version": f"rubricrm {__version__}"}  # readers look for this name


def quantization(choice: Choice, *, has_factors: bool) -> dict[str, Any]:
    """Return what is quantized, in the words that both forms share."""
    algorithm = choice.format.algorithm
    is_int4 = algorithm == "W4A16_AWQ"
    return {
        "quant_algo": algorithm,
        "kv_cache_quant_algo": None if choice.kv == "model" else choice.kv.upper(),
        **({"group_size": GROUP_SIZE, "has_zero_point": False, "pre_quant_scale": has_factors} if is_int4 else {}),
    }


def hf_quant_config(choice: Choice, *, has_factors: bool) -> dict[str, Any]:
    """Return hf_quant_config.json."""
    facts = quantization(choice, has_factors=has_factors)
    return {"producer": _PRODUCER, "quantization": {**facts, "exclude_modules": _excluded(choice)}}


def unified_config(
    config: Mapping[str, Any], architecture: Architecture, choice: Choice, float_name: str
) -> dict[str, Any]:
    """Return config.json of the checkpoint with what the reader must know of the weights.

    `rope_theta` stands in it twice: transformers 4 reads one place, transformers 5 the other, and each silently takes
    10,000 where its own is missing.
    """
    given = config.get("rope_parameters")
    rope = {**(given if isinstance(given, dict) else {"rope_type": "default"}), "rope_theta": architecture.rope_theta}
    result = {
        **config,
        "architectures": [architecture.name],
        "head_dim": architecture.head_dim,
        "rope_theta": architecture.rope_theta,
        "rope_parameters": rope,
        "torch_dtype": float_name,
        "dtype": float_name,
    }
    if choice.format.algorithm or choice.kv != "model":
        result["quantization_config"] = _quantization_config(choice)
    return result


def _quantization_config(choice: Choice) -> dict[str, Any]:
    config: dict[str, Any] = {}
    algorithm = choice.format.algorithm
    if algorithm is not None:
        config["config_groups"] = {"group_0": {**_GROUPS[algorithm], "targets": ["Linear"]}}
    config["ignore"] = _excluded(choice)
    if algorithm is not None:
        config["quant_algo"] = algorithm
    if choice.kv != "model":
        config["kv_cache_scheme"] = _FLOAT8
    return {**config, "producer": _PRODUCER, "quant_method": "modelopt"}


def _excluded(choice: Choice) -> list[str]:
    return ["lm_head"] if choice.head == "model" else []


def llm_config(
    architecture: Architecture, choice: Choice, float_name: str, *, tied: bool, has_factors: bool
) -> dict[str, Any]:
    """Return config.json of TensorRT-LLM 1.2's checkpoint.

    What has a default there that is wrong for this model is always written: head_size (hidden size / heads),
    rotary_base (10,000), attn_bias (true). `qwen_type` is what switches the norms of queries and keys on.
    """
    is_qwen = architecture.qk_norm
    return {
        "architecture": architecture.name,
        "dtype": float_name,
        "logits_dtype": "float32",
        "hidden_size": architecture.hidden_size,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "num_key_value_heads": architecture.num_kv_heads,
        "head_size": architecture.head_dim,
        "intermediate_size": architecture.intermediate_size,
        "vocab_size": architecture.vocab_size,
        "hidden_act": "silu",
        "norm_epsilon": architecture.rms_norm_eps,
        "position_embedding_type": "rope_gpt_neox",
        "max_position_embeddings": architecture.context_length,
        "rotary_base": architecture.rope_theta,
        "rotary_scaling": None,
        "attn_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "seq_length": min(8192, architecture.context_length),
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        "use_parallel_embedding": False,
        "embedding_sharding_dim": 0,
        **(_QWEN if is_qwen else {}),
        "quantization": quantization(choice, has_factors=has_factors),
    }


_QWEN = {
    "qwen_type": "qwen3",
    "qk_layernorm": True,
    "mlp_only_layers": [],
    "decoder_sparse_step": 1,
    "moe": {},
    "moe_intermediate_size": 0,
    "moe_shared_expert_intermediate_size": 0,
    "disable_weight_only_quant_plugin": False,
    "use_logn_attn": False,
    "num_labels": 1,
}
