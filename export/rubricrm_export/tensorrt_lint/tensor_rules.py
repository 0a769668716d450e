"""Rules of the linter that read tensors; see `findings` for what a rule is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from rubricrm_export.tensorrt.layout import LLM_SCALES, UNIFIED_SCALES
from rubricrm_export.tensorrt.linear import ScaleNames
from rubricrm_export.tensorrt.support import FORMATS
from rubricrm_export.tensorrt_lint.findings import EXPORT, Finding, Inspected, Rule


def _names(found: Inspected) -> ScaleNames:
    return LLM_SCALES if found.is_legacy else UNIFIED_SCALES


def block_scales(found: Inspected) -> Iterator[Finding]:
    """Edge-LLM issue 217: the official FP8 checkpoints of Qwen."""
    names = [name for name in found.tensors if name.endswith("weight_scale_inv")]
    if names:
        yield Finding(
            "block-scales",
            names[0],
            f"and {len(names) - 1} more are scales of blocks of 128 x 128.",
            "No reader of ModelOpt's FP8 takes them.",
            f"Export the 16-bit checkpoint again. {EXPORT}",
        )


def legacy_tensors(found: Inspected) -> Iterator[Finding]:
    """TensorRT-LLM 1.2 stops at a tensor that is missing, and only warns of one that it does not know."""
    if not found.is_legacy:
        return
    wanted = [*chain.from_iterable(found.linears())]
    for name in (
        *(f"{name}.weight" for name in wanted),
        "transformer.vocab_embedding.weight",
        "transformer.ln_f.weight",
    ):
        if name not in found.tensors:
            yield Finding(
                "missing-tensor",
                name,
                "is not in rank0.safetensors.",
                'The build stops: "Required but not provided tensors".',
                EXPORT,
            )
    if found.algorithm in ("W8A16", "W4A16"):
        for name in wanted:
            stored = found.tensors.get(f"{name}.weight")
            if stored is not None and stored.dtype in ("I8", "U8"):
                yield Finding(
                    "interleaved",
                    f"{name}.weight",
                    f"is stored as {stored.dtype}.",
                    "Integers are taken for rows that were interleaved for one kind of GPU: wrong on every other.",
                    "Store 16-bit floats: the build rounds and interleaves them for its own GPU.",
                )
                return


def weights_as_claimed(found: Inspected) -> Iterator[Finding]:
    """A float weight under a quantized algorithm, and the other way round."""
    if found.is_legacy and found.algorithm == "W8A16":
        return
    dtype = next((row.form.dtype for row in FORMATS if row.form.dtype and row.algorithm == found.algorithm), None)
    for name in chain.from_iterable(found.linears()):
        stored = found.tensors.get(f"{name}.weight")
        if stored is None:
            continue
        allowed = {dtype} if dtype else {"F16", "BF16", "F32"}
        if found.is_legacy and dtype in ("F8_E4M3", "U8"):
            allowed |= {"I8"}  # its bytes, viewed
        if stored.dtype not in allowed:
            yield Finding(
                "weight-type",
                f"{name}.weight",
                f'is {stored.dtype}, "quant_algo" {found.algorithm!r} stores {" or ".join(sorted(map(str, allowed)))}.',
                "The reader takes the bytes for something else, or stops.",
                EXPORT,
            )
            return


def weight_scales(found: Inspected) -> Iterator[Finding]:
    """A scale for every quantized weight, positive and finite."""
    if found.algorithm is None or (found.is_legacy and found.algorithm == "W8A16"):
        return
    suffix = _names(found).weight
    for name in chain.from_iterable(found.linears()):
        scale = found.tensors.get(f"{name}.{suffix}")
        if scale is None:
            yield Finding(
                "weight-scale",
                f"{name}.{suffix}",
                "is missing.",
                "The reader takes 1, or stops.",
                EXPORT,
            )
            return
        if scale.is_readable and (scale.array().astype(np.float32) <= 0).any():
            yield Finding(
                "scale-positive",
                f"{name}.{suffix}",
                "holds a scale that is not positive.",
                "Everything after that layer is no number.",
                f"The checkpoint is damaged. {EXPORT}",
            )
            return


def input_scales(found: Inspected) -> Iterator[Finding]:
    """Edge-LLM takes 1 where a scale is missing; TensorRT-LLM computes one per token."""
    if found.algorithm not in ("FP8", "W8A8_SQ_PER_CHANNEL"):
        return
    suffix = _names(found).input
    for group in found.linears():
        values = [found.value(f"{name}.{suffix}") for name in group]
        missing = [name for name, value in zip(group, values, strict=True) if value is None]
        if missing and found.reader != "tensorrt-llm":
            yield Finding(
                "input-scale",
                f"{missing[0]}.{suffix}",
                "is missing.",
                "Edge-LLM takes 1 without a message; others stop.",
                "Export with a calibration: --calibration self.",
            )
            return
        if len(set(values)) > 1:
            yield Finding(
                "input-scales-equal",
                f"{group[0]}.{suffix}",
                f"is {values[0]}, those with the same inputs have {values[1:]}.",
                "Readers that join the products take the largest, and round the others twice; Edge-LLM quantizes the "
                "same inputs several times.",
                EXPORT,
            )
            return


def kv_scales(found: Inspected) -> Iterator[Finding]:
    """Edge-LLM keeps FP16 without a message where scales are missing; SGLang and vLLM take 1 (sglang 17979)."""
    if found.kv is None:
        return
    if found.is_legacy:
        wanted = [f"transformer.layers.{n}.attention.kv_cache_scaling_factor" for n in range(found.num_layers)]
    else:
        wanted = [
            f"model.layers.{n}.self_attn.{part}_proj.{part}_scale" for n in range(found.num_layers) for part in "kv"
        ]
    missing = [name for name in wanted if name not in found.tensors]
    if missing:
        yield Finding(
            "kv-scales",
            missing[0],
            f"and {len(missing) - 1} more scales of the KV cache are missing.",
            "Edge-LLM keeps FP16 without a message, others take 1.",
            "Export with --kv and a calibration.",
        )
        return
    for name in wanted:
        value = found.value(name)
        if value is None or value <= 0:
            yield Finding(
                "scale-positive",
                name,
                f"is {value}, expected one positive number.",
                "Everything after that layer is no number.",
                EXPORT,
            )
            return


def large_kv_scales(found: Inspected) -> Iterator[Finding]:
    """TensorRT-LLM issues 8570 and 8572: "Large KV activation"; 4218: keys of Qwen2.5 that FP8 cannot hold."""
    large = {
        name: value
        for name in found.tensors
        if name.endswith((".k_scale", ".v_scale", ".kv_cache_scaling_factor"))
        and (value := found.value(name)) is not None
        and value > 0.5
    }
    if found.kv == "FP8" and large:
        name = max(large, key=lambda key: large[key])
        yield Finding(
            "kv-scale-large",
            name,
            f"is {large[name]:.3g}: the largest number is {448 * large[name]:.0f} (and {len(large) - 1} more).",
            "Few keys or values that are so large leave coarse steps to the others.",
            "Compare its answers with those of --kv model.",
            is_error=False,
        )


def unclaimed_kv_scales(found: Inspected) -> Iterator[Finding]:
    """Edge-LLM switches an FP8 cache on by the scales alone, TensorRT-LLM by the configuration alone."""
    if found.is_legacy or found.kv is not None:
        return
    name = next((name for name in found.tensors if name.endswith(".k_scale")), None)
    if name is not None:
        yield Finding(
            "kv-claimed",
            name,
            'is there, and "kv_cache_quant_algo" is null.',
            "Edge-LLM then caches in FP8, the others do not.",
            'Set "kv_cache_quant_algo" to "FP8", or remove the scales.',
        )


def int4_symmetric(found: Inspected) -> Iterator[Finding]:
    """Edge-LLM issue 105: zero points are clamped to four bits."""
    claims = found.quantization.get("has_zero_point") is True
    name = next((name for name in found.tensors if name.endswith((".qzeros", ".zero_point"))), None)
    if claims or name:
        yield Finding(
            "int4-symmetric",
            name or f"{found.path / 'hf_quant_config.json'}",
            "has zero points.",
            "Readers fold and clamp them: weights change in silence.",
            f"Use symmetric INT4. {EXPORT}",
        )


def int4_groups(found: Inspected) -> Iterator[Finding]:
    """Groups must divide the inputs; the scales say how large they are."""
    if found.algorithm != "W4A16_AWQ":
        return
    size = found.quantization.get("group_size", 128)
    for name in chain.from_iterable(found.linears()):
        weight, scale = found.tensors.get(f"{name}.weight"), found.tensors.get(f"{name}.{_names(found).weight}")
        if weight is None or scale is None or len(weight.shape) != 2:
            continue
        rows, width = weight.shape
        if not isinstance(size, int) or size < 1 or width % size or scale.shape != (2 * rows, width // size):
            yield Finding(
                "int4-groups",
                f"{name}.weight",
                f"is {list(weight.shape)} with scales {list(scale.shape)}, which groups of {size} do not make.",
                "The reader reads beyond the scales, or stops.",
                "Export with groups of 128 that divide every width, or with --weights fp8 or int8.",
            )
            return


def factors_before(found: Inspected) -> Iterator[Finding]:
    """TensorRT-LLM wants factors on o and down, and ignores those of q, k, v, gate and up; Edge-LLM applies them."""
    if found.algorithm != "W4A16_AWQ" or found.reader != "tensorrt-llm":
        return
    for group in found.linears():
        for name in group:
            has = f"{name}.pre_quant_scale" in found.tensors
            wants = name.endswith(("o_proj", "down_proj"))
            if wants and not has:
                yield Finding(
                    "factors-missing",
                    f"{name}.pre_quant_scale",
                    "is missing.",
                    "TensorRT-LLM does not load the layer without it.",
                    "Write ones where nothing is scaled.",
                )
                return
            if has and not wants and (found.tensors[f"{name}.pre_quant_scale"].array().astype(np.float32) != 1).any():
                yield Finding(
                    "factors-ignored",
                    f"{name}.pre_quant_scale",
                    "is not all ones.",
                    "TensorRT-LLM ignores it there: every answer is wrong.",
                    "Fold it into the norm before (its weight times the factors) and leave the tensor out.",
                )
                return


def factors_equal(found: Inspected) -> Iterator[Finding]:
    """Products that share their inputs are joined, and can have one vector of factors."""
    suffix = _names(found).before
    for group in found.linears():
        stored = [found.tensors[key] for name in group if (key := f"{name}.{suffix}") in found.tensors]
        if len(stored) in (0, 1):
            continue
        first = stored[0].array()
        if any(other.shape != stored[0].shape or (other.array() != first).any() for other in stored[1:]):
            yield Finding(
                "factors-equal",
                f"{group[0]}.{suffix}",
                "differs from those of products with the same inputs.",
                "Readers that join the products apply one of them to all.",
                f"Calibrate them together. {EXPORT}",
            )
            return


TENSOR_RULES: tuple[Rule, ...] = (
    block_scales,
    legacy_tensors,
    weights_as_claimed,
    weight_scales,
    input_scales,
    kv_scales,
    large_kv_scales,
    unclaimed_kv_scales,
    int4_symmetric,
    int4_groups,
    factors_before,
    factors_equal,
)
