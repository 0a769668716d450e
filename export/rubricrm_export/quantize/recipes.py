"""The methods of quantization, a line each."""

from __future__ import annotations

from collections.abc import Mapping

from rubricrm_export.quantize.awq import activation_aware_scale
from rubricrm_export.quantize.gptq import round_with_feedback
from rubricrm_export.quantize.recipe import Recipe
from rubricrm_export.quantize.rtn import round_to_nearest
from rubricrm_export.quantize.smoothquant import smoothing_scale

RECIPES: Mapping[str, Recipe] = {
    "rtn": Recipe(round_to_nearest),
    "gptq": Recipe(round_with_feedback),
    "awq": Recipe(round_to_nearest, activation_aware_scale),
    "smoothquant": Recipe(round_to_nearest, smoothing_scale),
}
