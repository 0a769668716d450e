"""What is stored in how many bits: the quantization options of an export, and which of them a target can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.manifest import ACTIVATIONS, FLOAT_WEIGHTS, WEIGHTS

from rubricrm_export.quantize.grid import Fp8Grid, Grid, IntegerGrid
from rubricrm_export.quantize.vocabulary import HEAD_BLOCK_SIZES, HEADS, KV_CACHES

_COMPUTED = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Row:
    """One line of the table of what can be run: weights and activations, and what goes with them on a target."""

    target: str
    weights: str
    activations: str
    block_sizes: tuple[str, ...]
    methods: tuple[str, ...]
    operator: str


# The first block size and the first method of a row are its defaults.
ROWS = (
    Row("cpu", "int4", "none", ("128", "64", "32"), ("rtn", "gptq", "awq"), "MatMulNBits"),
    # Activations are rounded in blocks of the same size: 128 inputs lose three times what 32 do, at 8 bits a weight.
    Row("cpu", "int8", "none", ("32", "64", "128"), ("rtn", "gptq", "awq"), "MatMulNBits"),
    Row("cpu", "int8", "none", ("channel",), ("rtn",), "DequantizeLinear + FusedMatMul: slow, for checking"),
    Row("cpu", "int8", "int8", ("channel",), ("smoothquant", "rtn"), "MatMulIntegerToFloat"),
    Row("cpu", "fp8", "none", ("128", "channel"), ("rtn",), "DequantizeLinear + FusedMatMul: slow, for checking"),
    Row(
        "cpu",
        "fp8",
        "fp8",
        ("128", "channel"),
        ("rtn",),
        "QuantizeLinear, DequantizeLinear + FusedMatMul: slow, for checking",
    ),
    Row("cuda", "int4", "none", ("128", "64", "32"), ("rtn", "gptq", "awq"), "MatMulNBits"),
    Row("cuda", "int8", "none", ("32", "64", "128"), ("rtn", "gptq", "awq"), "MatMulNBits"),
    Row("cuda", "fp8", "none", ("128", "channel"), ("rtn",), "MatMulBlockQuantizedFp8Weight"),
    Row("cuda", "fp8", "fp8", ("128", "channel"), ("rtn",), "MatMulBlockQuantizedFp8Weight"),
    Row("tensorrt", "int4", "none", ("128", "64", "32"), ("rtn", "gptq", "awq"), "DequantizeLinear + MatMul"),
    # TensorRT quantizes weights alone in 4 bits only, and rounds activations by one scale that it is given.
    Row("tensorrt", "int8", "int8", ("channel",), ("smoothquant", "rtn"), "QuantizeLinear, DequantizeLinear + MatMul"),
    Row("tensorrt", "fp8", "fp8", ("channel",), ("rtn",), "QuantizeLinear, DequantizeLinear + MatMul"),
)
# Storage of the head where none was asked for, by that of the layers.
_DEFAULT_HEADS = {"int8": "int8", "int4": "int4", "fp8": "model"}


@dataclass(frozen=True)
class _Offered:
    """What a target has besides its rows: float types of weights, KV caches, storage of embedding and head."""

    floats: tuple[str, ...]
    kv: tuple[str, ...]
    heads: tuple[str, ...]


_OFFERED = {
    "cpu": _Offered(FLOAT_WEIGHTS, ("model", "int8", "int8-tensor"), HEADS),
    "cuda": _Offered(("fp16", "bf16"), KV_CACHES, HEADS),
    "tensorrt": _Offered(FLOAT_WEIGHTS, ("model",), ("model",)),
}


@dataclass(frozen=True)
class Scheme:
    """The quantization of a bundle, complete and possible. Make one with `Scheme.of`.

    Attributes:
        target: "cpu", "cuda" or "tensorrt".
        weights: Of the layers' matrices: "fp32" ... "fp8".
        activations: "none", "int8" (a scale a token; for TensorRT as FP8) or "fp8" (one calibrated scale a matrix).
        kv: "model", "int8" (a scale a channel), "int8-tensor" (one a layer) or "fp8" (one a layer).
        method: How weights are rounded; "none" for float weights.
        block_size: Inputs that share a scale; None: all of a row.
        symmetric: Zero points are not stored: integers of 8 bits.
        head: Of the embedding and the output head: "model" (as floats), "int8" or "int4".
        float_weights: Float type of what is not quantized: "fp32", "fp16" or "bf16".
        head_block_size: Inputs of a quantized head that share a scale. 32 loses least: a tied head is the embedding
            too.
    """

    target: str
    weights: str
    activations: str
    kv: str
    method: str
    block_size: int | None
    symmetric: bool
    head: str
    float_weights: str
    head_block_size: int = 32

    @classmethod
    def of(
        cls,
        target: str,
        float_weights: str,
        *,
        weights: str | None = None,
        activations: str = "none",
        kv: str = "model",
        method: str | None = None,
        block_size: str | None = None,
        symmetric: bool | None = None,
        head: str | None = None,
        head_block_size: str | None = None,
    ) -> Scheme:
        """Check options together and fill in what was left out.

        Args:
            target: As the attribute.
            float_weights: Float type that the checkpoint stores.
            weights: None for the checkpoint's own type; FP16 for TensorRT, and for FP32 with "cuda". The others: as
                the attributes; None for the default.
            activations: As the attribute.
            kv: As the attribute.
            method: As the attribute.
            block_size: "32", "64", "128" or "channel".
            symmetric: As the attribute.
            head: As the attribute.
            head_block_size: "32", "64" or "128".

        Raises:
            OptionInvalid: No operator of the target does that; the message lists what there is.
        """
        if target == "tensorrt" or (target, float_weights) == ("cuda", "fp32"):
            # A GPU's attention and products of quantized matrices take 16-bit numbers. For TensorRT FP16 whatever the
            # checkpoint stores: a CPU cannot run BF16, and what ships was run.
            float_weights = "fp16"
        weights = weights or float_weights
        _require("weights", weights, WEIGHTS)
        _require("activations", activations, ACTIVATIONS)
        _require("kv", kv, KV_CACHES)
        _require("head", head or "model", HEADS)
        _require("head-block-size", head_block_size or "32", HEAD_BLOCK_SIZES)
        _require_of_target(target, weights, kv, head, symmetric)
        if weights in FLOAT_WEIGHTS:
            given = {"--activations": activations != "none", "--method": method, "--block-size": block_size}
            given |= {"--head": head, "--head-block-size": head_block_size, "--symmetric": symmetric is not None}
            _refuse(f"--weights {weights}", given)
            return cls(target, weights, "none", kv, "none", None, False, "model", weights)
        row = _find_row(target, weights, activations, block_size, method)
        if weights != "int4":
            _refuse(f"--weights {weights}", {"--symmetric/--asymmetric": symmetric is not None})
        size = block_size or row.block_sizes[0]
        head = head or ("model" if target == "tensorrt" else _DEFAULT_HEADS[weights])
        if head == "model":
            _refuse("--head model", {"--head-block-size": head_block_size})
        return cls(
            target,
            weights,
            activations,
            kv,
            method or row.methods[0],
            None if size == "channel" else int(size),
            weights != "int4" or target == "tensorrt" or bool(symmetric),
            head,
            float_weights,
            int(head_block_size or cls.head_block_size),
        )

    @property
    def is_quantized(self) -> bool:
        """Whether anything is stored in 8 bits or fewer."""
        return self.weights not in FLOAT_WEIGHTS or self.kv != "model"

    @property
    def grid(self) -> Grid:
        """Numbers that the layers' matrices are rounded to."""
        if self.weights == "fp8":
            return Fp8Grid(self.block_size, self._scale_type if self.target == "tensorrt" else np.float32)
        return IntegerGrid(4 if self.weights == "int4" else 8, self.block_size, self.symmetric, self._scale_type)

    @property
    def head_grid(self) -> IntegerGrid | None:
        """Numbers that embedding and output head are rounded to; None: they stay floats."""
        if self.head == "model":
            return None
        symmetric = self.head == "int8" or (self.weights == "int4" and self.symmetric)
        return IntegerGrid(4 if self.head == "int4" else 8, self.head_block_size, symmetric, self._scale_type)

    @property
    def rounds_by_calibration(self) -> bool:
        """Whether weights are rounded layer by layer on the model's own activations."""
        return self.method in ("gptq", "awq", "smoothquant")

    @property
    def needs_calibration(self) -> bool:
        """Whether the model must run on some text before anything is written."""
        return self.rounds_by_calibration or self.has_static_activations or self.kv != "model"

    @property
    def has_static_activations(self) -> bool:
        """Whether activations are rounded by one scale a matrix, measured beforehand."""
        return self.activations == "fp8" or (self.activations == "int8" and self.target == "tensorrt")

    @property
    def runs_on_cpu(self) -> bool:
        """Whether the graph itself can be run, and measured, on a CPU."""
        return self.target == "cpu" or (self.target == "tensorrt" and self.float_weights != "bf16")

    @property
    def _scale_type(self) -> Any:
        # MatMulNBits wants scales of the activations' type.
        return np.float32 if self.target == "cpu" else _COMPUTED[self.float_weights]


def describe_rows(target: str) -> str:
    """Return a table of what a target can run, one line a row."""
    return "\n".join(
        f"  --weights {row.weights} --activations {row.activations} --block-size {'|'.join(row.block_sizes)} "
        f"--method {'|'.join(row.methods)}  ({row.operator})"
        for row in ROWS
        if row.target == target
    )


def _require_of_target(target: str, weights: str, kv: str, head: str | None, symmetric: bool | None) -> None:
    """Check each option by itself against what a target has."""
    offered = _OFFERED[target]
    if weights in FLOAT_WEIGHTS and weights not in offered.floats:
        has = ", ".join((*offered.floats, "int8", "int4", "fp8"))
        raise OptionInvalid(f"--weights {weights} cannot be run by --target {target}, which has: {has}.")
    if kv not in offered.kv:
        raise OptionInvalid(f"--kv {kv} cannot be run by --target {target}, which has: {', '.join(offered.kv)}.")
    if head not in (None, *offered.heads):
        raise OptionInvalid(f"--head {head} cannot be run by --target {target}, which has: {', '.join(offered.heads)}.")
    if target == "tensorrt" and symmetric is False:
        raise OptionInvalid("--asymmetric cannot be run by --target tensorrt, which has no zero points. Leave it out.")


def _find_row(target: str, weights: str, activations: str, block_size: str | None, method: str | None) -> Row:
    for row in ROWS:
        is_wanted = (row.target, row.weights, row.activations) == (target, weights, activations)
        if is_wanted and block_size in (None, *row.block_sizes) and method in (None, *row.methods):
            return row
    asked = f"--weights {weights} --activations {activations}"
    asked += f" --block-size {block_size}" if block_size else ""
    asked += f" --method {method}" if method else ""
    raise OptionInvalid(f"{asked} cannot be run by --target {target}, which has:\n{describe_rows(target)}")


def _refuse(beside: str, given: dict[str, Any]) -> None:
    extra = [option for option, value in given.items() if value]
    if extra:
        raise OptionInvalid(f"{', '.join(extra)} has no meaning with {beside}. Leave it out.")


def _require(name: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise OptionInvalid(f"{name} must be one of {', '.join(values)}, got {value!r}.")
