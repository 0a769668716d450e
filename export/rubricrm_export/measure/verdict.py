"""What a loss means: beside what other models lost by the same recipe, and how much is too much unless a user says so.

The limits follow from what was measured on SmolLM2-135M-Instruct (docs/QUANTIZATION.md). It is small, and small models
lose more than large ones by the same recipe: what is beyond its limits is no model's usual loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rubricrm.errors import OptionInvalid
from rubricrm.runtime.manifest import FLOAT_WEIGHTS

from rubricrm_export.errors import QualityTooLow
from rubricrm_export.measure.quality import Quality
from rubricrm_export.quantize.scheme import Scheme

# What `--max-kl` may be: nats per token; None: the recipe's default; "none": any loss is taken.
MaxKl = float | Literal["none"] | None


@dataclass(frozen=True)
class LossLimits:
    """What a bundle may lose.

    Attributes:
        max_kl: Most nats per token; None: no limit.
        min_top1: Least share of positions with the same most probable token; None: no limit.
        reason: Why `max_kl` is what it is, where nobody asked for it.
        remedy: What may be done about a refusal besides storing more.
    """

    max_kl: float | None = None
    min_top1: float | None = None
    reason: str = ""
    remedy: str = "or move the limit"

    def __post_init__(self) -> None:
        """Check the limits, before any work."""
        if self.max_kl is not None and not 0 <= self.max_kl < math.inf:
            raise OptionInvalid(f"--max-kl must be a finite number >= 0, in nats per token, got {self.max_kl!r}.")
        if self.min_top1 is not None and not 0 <= self.min_top1 <= 1:
            raise OptionInvalid(f"--min-top1 must be a share from 0 to 1, got {self.min_top1!r}.")

    def require(self, quality: Quality, where: str, worst_layers: Callable[[], Sequence[int]] = tuple) -> None:
        """Refuse a bundle beyond the limits.

        Args:
            quality: What was measured.
            where: The bundle.
            worst_layers: Called only to refuse: gives the layers that lose most.

        Raises:
            QualityTooLow: It loses more.
        """
        faults = []
        if self.max_kl is not None and quality.kl > self.max_kl:
            reason = f" ({self.reason})" if self.reason else ""
            faults.append(f"KL is {quality.kl:.4g} nats per token, expected at most {self.max_kl:g}{reason}")
        if self.min_top1 is not None and quality.top1_agreement < self.min_top1:
            faults.append(f"top-1 agreement is {quality.top1_agreement:.4f}, expected at least {self.min_top1:g}")
        if not faults:
            return
        worst = ", ".join(map(str, worst_layers()))
        named = f" Layers that lose most: {worst}." if worst else ""
        raise QualityTooLow(
            f"{where}: {'; '.join(faults)}.{named} Store more bits, use smaller blocks or a calibrated method, "
            f"{self.remedy}."
        )


@dataclass(frozen=True)
class DefaultLimit:
    """How much a recipe may lose unless a user says so.

    Attributes:
        max_kl: Nats per token.
        reason: Why so much.
    """

    max_kl: float
    reason: str


_BROKEN = "SmolLM2 lost at most {}: more than twice that is no rounding error but a fault of the checkpoint or the text"
_USABLE = (
    "beyond it SmolLM2 found another most probable token at more than a quarter of all positions (top-1 agreement 75 % "
    "at 0.25 nats, 71 % at 0.36), and its perplexity grew by more than a third"
)
# By weights and activations; "one scale": static scales of INT8 activations, for TensorRT.
LIMITS: Mapping[tuple[str, str], DefaultLimit] = {
    ("float", "none"): DefaultLimit(0.03, _BROKEN.format("0.0074 by an 8-bit KV cache alone")),
    ("int8", "none"): DefaultLimit(0.05, _BROKEN.format("0.017")),
    ("int8", "int8"): DefaultLimit(0.1, _BROKEN.format("0.042")),
    ("int8", "one scale"): DefaultLimit(0.3, _USABLE),
    ("fp8", "none"): DefaultLimit(0.06, _BROKEN.format("0.026")),
    ("fp8", "fp8"): DefaultLimit(0.1, _BROKEN.format("0.043")),
    ("int4", "none"): DefaultLimit(0.3, _USABLE),
}


def default_limit(scheme: Scheme) -> DefaultLimit:
    """Return the default limit of a scheme."""
    weights = "float" if scheme.weights in FLOAT_WEIGHTS else scheme.weights
    has_one_scale = scheme.activations == "int8" and scheme.has_static_activations
    return LIMITS[weights, "one scale" if has_one_scale else scheme.activations]


def limits_of(scheme: Scheme, max_kl: MaxKl, min_top1: float | None, kept_in: str) -> LossLimits:
    """Return what an export may lose: as asked, else by its recipe's default.

    Args:
        scheme: What is exported.
        max_kl: As asked.
        min_top1: As asked.
        kept_in: Where a calibration stays when the bundle is refused.
    """
    remedy = "or pass --max-kl none to take it as it is"
    if scheme.needs_calibration:
        remedy += f"; {kept_in} keeps the calibration, and --resume goes on from it with another limit"
    if max_kl is None:
        default = default_limit(scheme)
        return LossLimits(default.max_kl, min_top1, f"the default for {scheme.recipe}: {default.reason}", remedy)
    return LossLimits(None if max_kl == "none" else max_kl, min_top1, remedy=remedy)


# Nats per token that the demo model (the least; None: not measured) and SmolLM2 (the most) lost by a recipe, of all KV
# caches that were measured. A test holds that they are those of benchmarks/results.
USUAL_KL: Mapping[str, tuple[float | None, float]] = {
    "float weights": (0.00047, 0.0042),
    "INT8 block 32, round to nearest, head INT8": (0.00047, 0.012),
    "INT8 block 32, round to nearest, head float": (0.00038, 0.011),
    "INT8 block 32, GPTQ, head INT8": (0.00038, 0.011),
    "INT8 block 128, round to nearest, head INT8": (0.00081, 0.017),
    "INT8 per channel, round to nearest, head float": (0.00015, 0.011),
    "INT8 per channel, activations INT8 with scales per token, round to nearest, head INT8": (0.0017, 0.042),
    "INT8 per channel, activations INT8 with scales per token, SmoothQuant, head INT8": (0.0013, 0.021),
    "FP8 block 128, round to nearest, head float": (0.0021, 0.024),
    "FP8 per channel, round to nearest, head float": (0.0023, 0.026),
    "FP8 block 128, activations FP8 with one scale, round to nearest, head float": (0.0066, 0.043),
    "INT4 block 128, round to nearest, head INT4": (0.041, 0.51),
    "INT4 block 32, round to nearest, head INT4": (0.031, 0.34),
    "INT4 block 32, round to nearest, head float": (0.018, 0.27),
    "INT4 block 64, round to nearest, head float": (0.024, 0.37),
    "INT4 block 64, symmetric, round to nearest, head float": (0.027, 0.44),
    "INT4 block 128, round to nearest, head float": (0.028, 0.43),
    "INT4 block 64, AWQ, head float": (0.023, 0.16),
    "INT4 block 128, AWQ, head float": (0.027, 0.22),
    "INT4 block 32, GPTQ, head float": (0.0093, 0.11),
    "INT4 block 64, GPTQ, head float": (0.012, 0.14),
    "INT4 block 128, GPTQ, head float": (0.013, 0.17),
    "INT4 block 128, GPTQ, head INT8": (0.013, 0.18),
    "INT4 block 128, GPTQ, head INT4": (0.021, 0.28),
    "FP8 per channel, activations FP8 with one scale, round to nearest, head float": (0.0073, 0.037),
    "INT8 per channel, activations INT8 with one scale, SmoothQuant, head float": (0.0071, 0.17),
    "INT8 per channel, activations INT8 with one scale, round to nearest, head float": (0.045, 0.48),
    "INT4 block 64, symmetric, GPTQ, head float": (0.012, 0.16),
    "INT4 block 64, round to nearest, head INT4": (0.035, 0.43),
    "INT4 block 64, AWQ, head INT4": (0.035, 0.25),
    "INT4 block 128, AWQ, head INT4": (0.04, 0.31),
}


def verdict(scheme: Scheme, quality: Mapping[str, float]) -> str:
    """Return in words what a bundle lost, beside what others lose by the same recipe.

    Args:
        scheme: Its quantization.
        quality: The figures of its manifest.
    """
    kl, recipe = quality["kl"], scheme.recipe
    lost = f"lost {kl:.2g} nats per token, top-1 agreement {100 * quality['top1_agreement']:.0f} %"
    if recipe not in USUAL_KL:
        return f"{lost}: no other model was measured by {recipe}"
    low, high = USUAL_KL[recipe]
    judgement = "more than usual" if kl > high else "usual" if kl >= (low or 0) else "less than usual"
    demo = "" if low is None else f"{low:g} on the demo model, "
    return f"{lost}: {judgement} for {recipe} ({demo}{high:g} on SmolLM2-135M)"
