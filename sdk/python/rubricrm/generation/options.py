"""How to generate: the options of one call, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypedDict

from rubricrm.errors import OptionInvalid

MAX_LOGPROBS = 20
_INTEGER_OPTIONS = ("max_new_tokens", "top_k", "seed", "logprobs")


class OptionKeywords(TypedDict, total=False):
    """The fields of GenerationOptions as keyword arguments."""

    max_new_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    stop: Sequence[str]
    logprobs: int | None
    timeout_s: float | None


@dataclass(frozen=True)
class GenerationOptions:
    """Options of one generation. The defaults decode greedily, whatever the checkpoint's generation_config says.

    Attributes:
        max_new_tokens: Most tokens to generate; None takes the bundle's default (1024).
        temperature: 0 is greedy; otherwise, from 0.001, logits are divided by it.
        top_k: Keep the k most probable tokens; 0 keeps all.
        top_p: Keep the fewest most probable tokens that hold this much probability; 1 keeps all.
        min_p: Keep tokens at least this probable, relative to the most probable one; 0 keeps all.
        seed: Any integer from 0 to 2^64 - 1; None draws one and reports it.
        stop: Strings that end the text; they are not part of it.
        logprobs: None for none; n for the chosen token's and the n most probable tokens' log-probabilities.
        timeout_s: Seconds after which what there is is returned, with finish_reason "timeout".

    Raises:
        OptionInvalid: A value is out of range or of another type.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    stop: Sequence[str] = ()
    logprobs: int | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        """Check types, then ranges."""
        for option in fields(self):
            if option.name != "stop":
                _check_number(option.name, getattr(self, option.name), option.default is None)
        _require(self.max_new_tokens is None or self.max_new_tokens >= 1, "max_new_tokens", "at least 1", self)
        in_range = self.temperature == 0 or 0.001 <= self.temperature <= 100
        _require(in_range, "temperature", "0 (greedy) or in [0.001, 100]", self)
        _require(self.top_k >= 0, "top_k", "at least 0", self)
        _require(0 < self.top_p <= 1, "top_p", "in (0, 1]", self)
        _require(0 <= self.min_p <= 1, "min_p", "in [0, 1]", self)
        _require(self.seed is None or 0 <= self.seed < 2**64, "seed", "from 0 to 2^64 - 1", self)
        _require(self.logprobs is None or 0 <= self.logprobs <= MAX_LOGPROBS, "logprobs", f"0 to {MAX_LOGPROBS}", self)
        _require(self.timeout_s is None or self.timeout_s > 0, "timeout_s", "greater than 0", self)
        is_list = isinstance(self.stop, Sequence) and not isinstance(self.stop, str | bytes)
        valid = is_list and all(isinstance(item, str) and item for item in self.stop)
        _require(valid, "stop", "a list of strings that are not empty", self)

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0


def _check_number(name: str, value: object, is_optional: bool) -> None:
    if value is None and is_optional:
        return
    kinds: tuple[type, ...] = (int,) if name in _INTEGER_OPTIONS else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):
        expected = "an integer" if kinds == (int,) else "a finite number"
        raise OptionInvalid(f"{name} must be {expected}, got {value!r}.")


def _require(condition: bool, name: str, expected: str, options: GenerationOptions) -> None:
    if not condition:
        raise OptionInvalid(f"{name} must be {expected}, got {getattr(options, name)!r}.")
