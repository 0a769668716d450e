"""What is stored in how many bits: the quantization options of an export, checked together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.manifest import ACTIVATIONS, FLOAT_WEIGHTS, WEIGHTS

from rubricrm_export.quantize.combinations import (
    READER,
    SCHEME_TARGETS,
    default_kv,
    find_combination,
    has_zero_points,
    require_offered,
)
from rubricrm_export.quantize.grid import Fp8Grid, Grid, IntegerGrid
from rubricrm_export.quantize.vocabulary import HEAD_BLOCK_SIZES, HEADS, KV_CACHES

_COMPUTED = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}
# Storage of the head where none was asked for, by that of the layers.
_DEFAULT_HEADS = {"int8": "int8", "int4": "int4", "fp8": "model"}
_METHOD_NAMES = {"rtn": "round to nearest", "gptq": "GPTQ", "awq": "AWQ", "smoothquant": "SmoothQuant"}


@dataclass(frozen=True)
class Scheme:
    """The quantization of a model, complete and possible. `Scheme.of` makes all of them, `on_cpu` others of those.

    Attributes:
        target: "cpu", "cuda", "tensorrt", or `READER` for matrices that another runtime reads.
        weights: Of the layers' matrices: "fp32" ... "fp8".
        activations: "none", "int8" (one scale per token; for TensorRT as FP8) or "fp8" (one calibrated scale per
            matrix).
        kv: "model" (the type of the activations), "float16", "int8" (one scale per channel), "int8-tensor" (one per
            layer) or "fp8" (one per layer).
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
        kv: str | None = None,
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
            kv: As the attribute; None for the default of target and weights.
            method: As the attribute.
            block_size: "32", "64", "128" or "channel".
            symmetric: As the attribute.
            head: As the attribute.
            head_block_size: "32", "64" or "128".

        Raises:
            OptionInvalid: No operator of the target does that; the message lists what there is.
        """
        _require("target", target, SCHEME_TARGETS)
        if target == "tensorrt" or (target, float_weights) == ("cuda", "fp32"):
            # A GPU's attention and products of quantized matrices take 16-bit numbers. For TensorRT FP16 whatever the
            # checkpoint stores: a CPU cannot run BF16, and what ships was run.
            float_weights = "fp16"
        beside = f"--weights {weights}" if weights else "weights as the checkpoint stores them"
        weights = weights or float_weights
        kv = kv or default_kv(target, weights)
        _require("weights", weights, WEIGHTS)
        _require("activations", activations, ACTIVATIONS)
        _require("kv", kv, KV_CACHES)
        _require("head", head or "model", HEADS)
        _require("head-block-size", head_block_size or "32", HEAD_BLOCK_SIZES)
        require_offered(target, weights, kv, head, symmetric)
        if weights in FLOAT_WEIGHTS:
            given = {"--activations": activations != "none", "--method": method, "--block-size": block_size}
            given |= {"--head": head, "--head-block-size": head_block_size, "--symmetric": symmetric is not None}
            _refuse(beside, given)
            return cls(target, weights, "none", kv, "none", None, False, "model", weights)
        row = find_combination(target, weights, activations, block_size, method)
        if weights != "int4":
            _refuse(f"--weights {weights}", {"--symmetric/--asymmetric": symmetric is not None})
        size = block_size or row.block_sizes[0]
        head = head or ("model" if target in ("tensorrt", READER) else _DEFAULT_HEADS[weights])
        if head == "model":
            _refuse("--head model", {"--head-block-size": head_block_size})
        return cls(
            target,
            weights,
            activations,
            kv,
            method or row.methods[0],
            None if size == "channel" else int(size),
            weights != "int4" or not has_zero_points(target) or bool(symmetric),
            head,
            float_weights,
            int(head_block_size or cls.head_block_size),
        )

    def on_cpu(self) -> Scheme:
        """Return the scheme with which a CPU computes what this one does on a GPU, to measure it.

        Every combination of "cuda" is one of the CPU too. Keys and values in FP8 stay floats: it has no kernel.
        """
        return replace(self, target="cpu", kv="model" if self.kv == "fp8" else self.kv)

    @property
    def operator(self) -> str:
        """What multiplies by the matrices of the layers; not for float weights."""
        block_size = "channel" if self.block_size is None else str(self.block_size)
        return find_combination(self.target, self.weights, self.activations, block_size, self.method).operator

    @property
    def recipe(self) -> str:
        """What decides the loss, in words: "INT4 block 128, GPTQ, head INT4". The KV cache's type is not in it."""
        if self.weights in FLOAT_WEIGHTS:
            return "float weights"
        block = "per channel" if self.block_size is None else f"block {self.block_size}"
        parts = [f"{self.weights.upper()} {block}"]
        if self.activations != "none":
            scales = "one scale" if self.has_static_activations else "scales per token"
            parts.append(f"activations {self.activations.upper()} with {scales}")
        if self.weights == "int4" and self.symmetric:
            parts.append("symmetric")
        parts.append(_METHOD_NAMES[self.method])
        head = "float" if self.head == "model" else self.head.upper()
        is_usual = self.head == "model" or self.head_block_size == type(self).head_block_size
        parts.append(f"head {head}" if is_usual else f"head {head} block {self.head_block_size}")
        return ", ".join(parts)

    @property
    def is_quantized(self) -> bool:
        """Whether anything is stored in 8 bits or fewer."""
        return self.weights not in FLOAT_WEIGHTS or self.has_kv_scales

    @property
    def has_kv_scales(self) -> bool:
        """Whether keys and values are stored in 8 bits, with scales that calibration finds."""
        return self.kv not in ("model", "float16")

    @property
    def grid(self) -> Grid:
        """Numbers that the layers' matrices are rounded to."""
        if self.weights == "fp8":
            return Fp8Grid(self.block_size, self._scale_type if self.target == "tensorrt" else np.float32)
        # Only weights in blocks are packed.
        scale_type = np.float32 if self.target == "cpu" and self.block_size is None else self._scale_type
        return IntegerGrid(4 if self.weights == "int4" else 8, self.block_size, self.symmetric, scale_type)

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
        return self.rounds_by_calibration or self.has_static_activations or self.has_kv_scales

    @property
    def has_static_activations(self) -> bool:
        """Whether activations are rounded by one scale per matrix, measured beforehand."""
        return self.activations == "fp8" or (self.activations == "int8" and self.target == "tensorrt")

    @property
    def runs_on_cpu(self) -> bool:
        """Whether the graph itself can be run, and measured, on a CPU."""
        return self.target == "cpu" or (self.target == "tensorrt" and self.float_weights != "bf16")

    @property
    def _scale_type(self) -> Any:
        # MatMulNBits wants scales of the activations' type; for the CPU these are float32, and hold numbers of float16,
        # so that packed weights, whose scales are float16, are the same model.
        if self.target == "cpu":
            return np.float16
        return np.float32 if self.target == READER else _COMPUTED[self.float_weights]


def _refuse(beside: str, given: dict[str, Any]) -> None:
    extra = [option for option, value in given.items() if value]
    if extra:
        raise OptionInvalid(f"{', '.join(extra)} has no meaning with {beside}. Leave it out.")


def _require(name: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise OptionInvalid(f"{name} must be one of {', '.join(values)}, got {value!r}.")
