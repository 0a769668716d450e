"""The table of what can be run: which weights, activations, blocks and methods go together on a target."""

from __future__ import annotations

from dataclasses import dataclass

from rubricrm.errors import OptionInvalid
from rubricrm.runtime.manifest import FLOAT_WEIGHTS

from rubricrm_export.quantize.vocabulary import HEADS

# Where another runtime reads the matrices from safetensors: no graph is written, and scales are float32.
READER = "reader"

_METHODS = ("rtn", "gptq", "awq")
_CHECKED = "DequantizeLinear + FusedMatMul"
_FP8_PRODUCT = "MatMulBlockQuantizedFp8Weight"


@dataclass(frozen=True)
class Combination:
    """One line of the table.

    Attributes:
        target: "cpu", "cuda", "tensorrt" or `READER`.
        weights: "int4", "int8" or "fp8".
        activations: "none", "int8" or "fp8".
        block_sizes: Inputs that may share a scale, the default first; "channel": all of a row.
        methods: How weights may be rounded, the default first.
        operator: What multiplies; `graph/storage_table.py` holds how each of them is written.
        remark: What else is to be known.
    """

    target: str
    weights: str
    activations: str
    block_sizes: tuple[str, ...]
    methods: tuple[str, ...]
    operator: str
    remark: str = ""


_SLOW = "slow, for checking"
COMBINATIONS = (
    Combination("cpu", "int4", "none", ("128", "64", "32"), _METHODS, "MatMulNBits"),
    # Activations are rounded in blocks of the same size: 128 inputs lose three times what 32 do, at 8 bits per weight.
    Combination("cpu", "int8", "none", ("32", "64", "128"), _METHODS, "MatMulNBits"),
    Combination("cpu", "int8", "none", ("channel",), ("rtn",), _CHECKED, _SLOW),
    Combination("cpu", "int8", "int8", ("channel",), ("smoothquant", "rtn"), "MatMulIntegerToFloat"),
    Combination("cpu", "fp8", "none", ("128", "channel"), ("rtn",), _CHECKED, _SLOW),
    Combination("cpu", "fp8", "fp8", ("128", "channel"), ("rtn",), f"QuantizeLinear, {_CHECKED}", _SLOW),
    Combination("cuda", "int4", "none", ("128", "64", "32"), _METHODS, "MatMulNBits"),
    Combination("cuda", "int8", "none", ("32", "64", "128"), _METHODS, "MatMulNBits"),
    Combination("cuda", "fp8", "none", ("128", "channel"), ("rtn",), _FP8_PRODUCT),
    Combination("cuda", "fp8", "fp8", ("128", "channel"), ("rtn",), _FP8_PRODUCT),
    Combination("tensorrt", "int4", "none", ("128", "64", "32"), _METHODS, "DequantizeLinear + MatMul"),
    # TensorRT quantizes weights alone in 4 bits only, and rounds activations by one scale that it is given.
    Combination(
        "tensorrt",
        "int8",
        "int8",
        ("channel",),
        ("smoothquant", "rtn"),
        "QuantizeLinear, DequantizeLinear + MatMul",
    ),
    Combination("tensorrt", "fp8", "fp8", ("channel",), ("rtn",), "QuantizeLinear, DequantizeLinear + MatMul"),
    Combination(READER, "int4", "none", ("128",), _METHODS, "the reader's own"),
    Combination(READER, "int8", "none", ("channel",), ("rtn",), "the reader's own"),
    Combination(READER, "int8", "int8", ("channel",), ("smoothquant", "rtn"), "the reader's own"),
    Combination(READER, "fp8", "fp8", ("channel",), ("rtn",), "the reader's own"),
)


@dataclass(frozen=True)
class _Offered:
    """What a target has besides its combinations.

    Float types of weights, KV caches, the default first, and storage of embedding and head.
    """

    floats: tuple[str, ...]
    kv: tuple[str, ...]
    heads: tuple[str, ...]


_OFFERED = {
    "cpu": _Offered(FLOAT_WEIGHTS, ("float16", "model", "int8", "int8-tensor"), HEADS),
    "cuda": _Offered(("fp16", "bf16"), ("model", "int8", "int8-tensor", "fp8"), HEADS),
    "tensorrt": _Offered(FLOAT_WEIGHTS, ("model",), ("model",)),
    READER: _Offered(FLOAT_WEIGHTS, ("model", "int8-tensor", "fp8"), ("model",)),
}
SCHEME_TARGETS = tuple(_OFFERED)


def default_kv(target: str, weights: str) -> str:
    """Return how a target stores keys and values where nothing was asked for.

    Whoever stores weights in 32 bits wants the checkpoint's own numbers.
    """
    return "model" if weights == "fp32" else _OFFERED[target].kv[0]


def require_offered(target: str, weights: str, kv: str, head: str | None, symmetric: bool | None) -> None:
    """Check each option by itself against what a target has.

    Raises:
        OptionInvalid: It has no such thing; the message lists what it has.
    """
    offered = _OFFERED[target]
    if weights in FLOAT_WEIGHTS and weights not in offered.floats:
        has = ", ".join((*offered.floats, "int8", "int4", "fp8"))
        raise OptionInvalid(f"--weights {weights} cannot be run by --target {target}, which has: {has}.")
    if kv not in offered.kv:
        raise OptionInvalid(f"--kv {kv} cannot be run by --target {target}, which has: {', '.join(offered.kv)}.")
    if head not in (None, *offered.heads):
        raise OptionInvalid(f"--head {head} cannot be run by --target {target}, which has: {', '.join(offered.heads)}.")
    if not has_zero_points(target) and symmetric is False:
        raise OptionInvalid(f"--asymmetric cannot be run by --target {target}, which has no zero points. Leave it out.")


def has_zero_points(target: str) -> bool:
    """Whether a target's INT4 may have zero points."""
    return target in ("cpu", "cuda")


def find_combination(
    target: str, weights: str, activations: str, block_size: str | None, method: str | None
) -> Combination:
    """Return the first line that has all of the given options; None: any.

    Raises:
        OptionInvalid: No operator of the target does that; the message lists what there is.
    """
    for row in COMBINATIONS:
        is_wanted = (row.target, row.weights, row.activations) == (target, weights, activations)
        if is_wanted and block_size in (None, *row.block_sizes) and method in (None, *row.methods):
            return row
    asked = f"--weights {weights} --activations {activations}"
    asked += f" --block-size {block_size}" if block_size else ""
    asked += f" --method {method}" if method else ""
    raise OptionInvalid(f"{asked} cannot be run by --target {target}, which has:\n{describe_combinations(target)}")


def describe_combinations(target: str) -> str:
    """Return the lines of a target as text."""
    return "\n".join(
        f"  --weights {row.weights} --activations {row.activations} --block-size {'|'.join(row.block_sizes)} "
        f"--method {'|'.join(row.methods)}  ({': '.join(filter(None, (row.operator, row.remark)))})"
        for row in COMBINATIONS
        if row.target == target
    )
