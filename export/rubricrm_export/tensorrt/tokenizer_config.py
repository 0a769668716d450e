"""What of a tokenizer_config.json the readers' version of transformers cannot load, and what it can.

TensorRT-LLM 1.2 pins transformers 4.57; the pin of 1.3.0rc27 is not known, earlier ones of 1.3 had 4.57 too. Edge-LLM
0.11 and vLLM 0.33 pin transformers 5. Both faults were reproduced with transformers 4.57.6, and 5.14.1 loads either
form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PINS_TRANSFORMERS_4 = ("tensorrt-llm-1.2",)
MAY_PIN_TRANSFORMERS_4 = (*PINS_TRANSFORMERS_4, "tensorrt-llm")
# The classes that transformers 5 added, and writes.
_ONLY_IN_5 = ("TokenizersBackend", "SentencePieceBackend", "PythonBackend", "MistralCommonBackend")
_IN_BOTH = "PreTrainedTokenizerFast"
_CLASS, _EXTRA, _ADDITIONAL = "tokenizer_class", "extra_special_tokens", "additional_special_tokens"


def unloadable_keys(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys that stop transformers 4.57, each with what to write there."""
    found = {}
    if config.get(_CLASS) in _ONLY_IN_5:
        found[_CLASS] = f'Write "{_IN_BOTH}" there: it loads the same tokenizer.json in both versions.'
    if isinstance(config.get(_EXTRA), list):
        found[_EXTRA] = f'Call the list "{_ADDITIONAL}": both versions read that.'
    return found


def loadable_by(reader: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that the reader's transformers loads, the same where it does already."""
    result = dict(config)
    if reader not in MAY_PIN_TRANSFORMERS_4:
        return result
    found = unloadable_keys(config)
    if _CLASS in found:
        result[_CLASS] = _IN_BOTH
    if _EXTRA in found:
        extra = result.pop(_EXTRA)
        result[_ADDITIONAL] = list(dict.fromkeys([*(result.get(_ADDITIONAL) or []), *extra]))
    return result
