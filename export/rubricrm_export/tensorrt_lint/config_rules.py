"""Rules of the linter that read configurations, beside the shapes of tensors; see `findings` for what a rule is."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any

from rubricrm_export.checkpoint.files import CONFIG
from rubricrm_export.tensorrt.devices import DEVICES
from rubricrm_export.tensorrt.support import FORMATS
from rubricrm_export.tensorrt_lint.findings import Finding, Inspected, Rule


def head_dim(found: Inspected) -> Iterator[Finding]:
    """TensorRT-LLM PR 5650, issue 6182: (3840, 2560) instead of (6144, 2560)."""
    key = "head_size" if found.is_legacy else "head_dim"
    hidden, heads = found.number("hidden_size"), found.number("num_attention_heads")
    stated = found.number(key)
    guessed = hidden // heads if hidden and heads else None
    real = _real_head_dim(found)
    effective = stated if stated is not None else guessed
    if real is None or effective == real:
        return
    said = f'"{key}" is {stated}' if stated is not None else f'no "{key}": readers take {guessed}'
    yield Finding(
        "head-dim",
        f"{found.path / CONFIG}",
        f"{said}, the weights have {real}.",
        "The reader fails on the shape of q, k and v, or computes another model.",
        f'Set "{key}" to {real}.',
    )


def _real_head_dim(found: Inspected) -> int | None:
    heads, kv_heads = found.number("num_attention_heads"), found.number("num_key_value_heads")
    if not heads:
        return None
    name = "transformer.layers.0.attention.qkv" if found.is_legacy else "model.layers.0.self_attn.q_proj"
    stored = found.tensors.get(f"{name}.weight")
    if stored is None or len(stored.shape) != 2 or stored.shape[1] != found.number("hidden_size"):
        return None  # packed in a way of its own
    rows = stored.shape[0] * (2 if stored.dtype == "U8" else 1)
    parts = heads + 2 * (kv_heads or heads) if found.is_legacy else heads
    return rows // parts if rows % parts == 0 else None


def rope_theta(found: Inspected) -> Iterator[Finding]:
    """Transformers 4 reads one place, transformers 5 the other; each takes 10,000 where its own is missing."""
    if not found.has_readers_form:
        return
    if found.is_legacy:
        if not isinstance(found.config.get("rotary_base"), (int, float)):
            yield Finding(
                "rotary-base",
                f"{found.path / CONFIG}",
                'has no number "rotary_base".',
                "TensorRT-LLM 1.2 takes 10000: every answer is wrong.",
                'Set it to the "rope_theta" of the model (Qwen3: 1000000).',
            )
        return
    top, nested = found.config.get("rope_theta"), found.config.get("rope_parameters")
    inner = nested.get("rope_theta") if isinstance(nested, dict) else None
    if top is None and inner is None:
        message, remedy = 'has no "rope_theta".', "Set it to that of the model (Qwen3: 1000000), in both places."
    elif top is None or inner is None:
        place = '"rope_theta"' if top is None else '"rope_parameters.rope_theta"'
        message, remedy = f"has no {place}, only the other one.", f"Write {inner if top is None else top} there too."
    elif top != inner:
        message, remedy = f'"rope_theta" is {top}, in "rope_parameters" it is {inner}.', "Write the model's own twice."
    else:
        return
    yield Finding(
        "rope-theta",
        f"{found.path / CONFIG}",
        message,
        "A reader with the other version of transformers takes 10000 without a message.",
        remedy,
        # Without any the default may be the model's own, if the model is none that is written here.
        is_error=(top is None) == (inner is None) and (top is not None or found.unknown_form is None),
    )


def legacy_form(found: Inspected) -> Iterator[Finding]:
    """A directory for the other readers, given to trtllm-build."""
    if not found.has_readers_form:
        yield Finding(
            "legacy-form",
            f"{found.path / CONFIG}",
            'has no "architecture": it is no checkpoint of TensorRT-LLM 1.2.',
            "trtllm-build stops.",
            "Export it with --for tensorrt-llm-1.2, or check it --for another reader.",
        )


def legacy_defaults(found: Inspected) -> Iterator[Finding]:
    """Keys whose default in TensorRT-LLM 1.2 is wrong for Qwen3."""
    if not found.is_legacy:
        return
    has_norms = any(name.endswith(".q_layernorm.weight") for name in found.tensors)
    wanted: list[tuple[str, str, Any, str]] = [
        ("attn-bias", "attn_bias", False, "It is true where the key is missing: the reader asks for biases."),
        ("hidden-act", "hidden_act", "silu", 'It is "gelu" where the key is missing: every answer is wrong.'),
        (
            "position-embedding",
            "position_embedding_type",
            "rope_gpt_neox",
            'It is "learned_absolute" where the key is missing.',
        ),
    ]
    if has_norms:
        reason = "Nothing else switches the norms of queries and keys on: every answer is wrong."
        wanted.append(("qwen-type", "qwen_type", "qwen3", reason))
    for rule, key, value, reason in wanted:
        got = found.config.get(key)
        if got != value:
            yield Finding(
                rule,
                f"{found.path / CONFIG}",
                f'"{key}" is {got!r}, expected {value!r}.',
                reason,
                f"Set it to {str(value).lower() if isinstance(value, bool) else value!r}.",
            )


def configs_agree(found: Inspected) -> Iterator[Finding]:
    """Of the two, vLLM reads config.json, TensorRT-LLM and Edge-LLM hf_quant_config.json first."""
    if found.is_legacy or found.hf_quant_config is None or not found.embedded:
        return
    for key in ("quant_algo", "kv_cache_quant_algo"):
        left, right = found.quantization.get(key), found.embedded.get(key)
        if left != right:
            yield Finding(
                "configs-differ",
                f"{found.path / 'hf_quant_config.json'}",
                f'"{key}" is {left!r} there and {right!r} in config.json.',
                "Readers that look into the one or the other load different models.",
                "Make them equal.",
            )


def algorithm_of_reader(found: Inspected) -> Iterator[Finding]:
    """Edge-LLM reads "W8A16" as FP16: a product with integers that nobody scales. vLLM fails."""
    algorithm = found.algorithm
    known = {row.algorithm for row in FORMATS if row.reader == found.reader}
    if algorithm in known:
        return
    reason = "It stops with an error that does not say so."
    if found.reader == "edge-llm" and algorithm == "W8A16":
        reason = "It takes the integers for FP16 weights, without their scales, and says nothing."
    listed = ", ".join(sorted(name for name in known if name))
    yield Finding(
        "algorithm",
        f"{found.path}",
        f'"quant_algo" is {algorithm!r}; --for {found.reader} reads {listed}.',
        reason,
        "Export with --weights of that reader's: `rubricrm export tensorrt --list`.",
    )


def kv_of_reader(found: Inspected) -> Iterator[Finding]:
    """An INT8 cache exists in TensorRT-LLM 1.2 alone; vLLM refuses a cache that is quantized alone."""
    if found.kv is None:
        return
    if found.kv == "INT8" and not found.is_legacy:
        yield Finding(
            "kv-int8",
            f"{found.path}",
            f"claims an INT8 KV cache, which --for {found.reader} does not have.",
            "It is refused, or ignored.",
            "Export with --kv fp8 or --kv model.",
        )
    if found.reader == "edge-llm" and found.algorithm == "W4A16_AWQ":
        yield Finding(
            "kv-dropped",
            f"{found.path}",
            "has an FP8 KV cache beside INT4 weights.",
            "The exporter of Edge-LLM 0.11 keeps FP16 without a message.",
            "Export with --kv model, or with --weights fp8.",
        )
    if found.reader == "vllm" and found.algorithm is None:
        yield Finding(
            "kv-alone",
            f"{found.path}",
            "quantizes the KV cache and not the weights.",
            "vLLM stops at the empty quant_algo.",
            "Export with --weights fp8, or serve floats with --kv-cache-dtype fp8.",
        )


def device_has_fp8(found: Inspected) -> Iterator[Finding]:
    """FP8 begins with compute capability 8.9; Orin and A100 have none."""
    if found.device is None or DEVICES[found.device].has_fp8:
        return
    if found.algorithm == "FP8" or found.kv == "FP8":
        what = "weights" if found.algorithm == "FP8" else "a KV cache"
        yield Finding(
            "device-fp8",
            f"{found.path}",
            f"has {what} in FP8, which {found.device} cannot multiply.",
            "The engine does not build, or runs on emulation.",
            "Export with --weights int4 or int8 and --kv model.",
        )


def excluded_head(found: Inspected) -> Iterator[Finding]:
    """Edge-LLM reads a tied head that is not excluded as quantized, with a scale of 1 over FP16 numbers."""
    if found.is_legacy or found.algorithm is None or "lm_head.weight_scale" in found.tensors:
        return
    patterns = found.quantization.get("exclude_modules") or []
    if not any(fnmatch.fnmatch("lm_head", str(pattern)) for pattern in patterns):
        yield Finding(
            "lm-head-excluded",
            f"{found.path / 'hf_quant_config.json'}",
            'does not exclude "lm_head", which is not quantized.',
            "Edge-LLM then divides it by a scale of 1 in FP8 or INT4, and says nothing.",
            'Add "lm_head" to "exclude_modules" (and to "ignore" in config.json).',
        )


# Of every directory, whatever form its weights are in.
FORM_RULES: tuple[Rule, ...] = (head_dim, rope_theta, legacy_form)
CONFIG_RULES: tuple[Rule, ...] = (
    legacy_defaults,
    configs_agree,
    algorithm_of_reader,
    kv_of_reader,
    device_has_fp8,
    excluded_head,
)
