"""Which form the weights of a directory are in, where that is not ModelOpt's: these are not judged by ModelOpt's rules.

Readers load several of them. `quant_method` in config.json names the form; older tools wrote other keys or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Keys of a `quantization_config` without `quant_method`, and the form that has them.
_KEYS = {
    "config_groups": "compressed-tensors",
    "weight_block_size": "fp8",
    "activation_scheme": "fp8",
    "load_in_4bit": "bitsandbytes",
    "load_in_8bit": "bitsandbytes",
    "zero_point": "awq",
    "w_bit": "awq",
    "desc_act": "gptq",
}
# Files beside a config.json that does not mention the quantization.
_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}


def foreign_form(path: Path, config: Mapping[str, Any], *, has_modelopt_file: bool) -> str | None:
    """Return the name of the form; None: it is ModelOpt's, or nothing is quantized.

    Args:
        path: The directory.
        config: Its config.json.
        has_modelopt_file: Whether there is a hf_quant_config.json, which only ModelOpt writes.
    """
    given = _declared(config)
    if given is not None:
        return _named(given)
    if "compression_config" in config:
        return "compressed-tensors"
    if isinstance(config.get("quantization"), dict):
        return "mlx"
    if has_modelopt_file:
        return None
    return next((form for name, form in _FILES.items() if (path / name).is_file()), None)


def _declared(config: Mapping[str, Any]) -> object:
    """Return `quantization_config`, also that of the language model inside a model of several parts."""
    text = config.get("text_config")
    for place in (config, text if isinstance(text, dict) else {}):
        if place.get("quantization_config") is not None:
            return place["quantization_config"]
    return None


def _named(given: object) -> str | None:
    if not isinstance(given, dict):
        return f"quantization_config {given!r}"
    method = given.get("quant_method")
    if isinstance(method, str):
        return None if method.lower().startswith("modelopt") else method
    if not given or given.keys() & {"quant_algo", "quantization"}:
        return None
    return next((form for key, form in _KEYS.items() if key in given), "no quant_method")
