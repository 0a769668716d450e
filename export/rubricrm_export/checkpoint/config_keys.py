"""Typed reading of one config.json: every refusal names the file, the key, what it holds and what was expected."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TypeGuard

from rubricrm_export.errors import CheckpointInvalid, CheckpointUnsupported


class ConfigKeys:
    """The keys of a parsed config.

    Attributes:
        config: The parsed file; never changed.
        source: Where it came from, for the messages.
    """

    def __init__(self, config: Mapping[str, object], source: str) -> None:
        self.config = config
        self.source = source

    def get(self, key: str) -> object:
        """The value as it is, None when the key is absent."""
        return self.config.get(key)

    def positive_int(self, key: str, most: int = 2**31 - 1, *, default: int | None = None) -> int:
        """A whole number of 1 to `most`; true and 4.0 are none.

        Args:
            key: Its key.
            most: The largest that is taken.
            default: What it is when the key is absent; None: it must be there.

        Raises:
            CheckpointInvalid: Missing, of another type, or out of range.
        """
        value = self.config.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            raise self.invalid(key, f"a positive whole number up to {most}")
        return value

    def positive_float(self, key: str, *, default: float | None = None) -> float:
        """A finite number above 0, written with or without a decimal point; `default` when the key is absent.

        Raises:
            CheckpointInvalid: Missing, of another type, or out of range.
        """
        value = self.config.get(key, default)
        if not is_positive_number(value):
            raise self.invalid(key, "a positive number")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false; false when absent or null, as Hugging Face's classes read the flags that are read here.

        Raises:
            CheckpointInvalid: Neither true nor false.
        """
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.invalid(key, "true or false")
        return bool(value)

    def invalid(self, key: str, expected: str) -> CheckpointInvalid:
        """The error for a value that no config of this kind holds."""
        remedy = "Take config.json from the model that the weights were trained from."
        return CheckpointInvalid(f"{self._finding(key)}, expected {expected}. {remedy}")

    def unsupported(self, key: str, expected: str, remedy: str) -> CheckpointUnsupported:
        """The error for a sound value that the exporter does not build."""
        return CheckpointUnsupported(f"{self._finding(key)}, expected {expected}. {remedy}")

    def _finding(self, key: str) -> str:
        if key not in self.config:
            return f'{self.source}: "{key}" is missing'
        got = json.dumps(self.config[key], default=repr)
        return f'{self.source}: "{key}" is {got if len(got) <= 100 else got[:97] + "..."}'


def is_positive_number(value: object) -> TypeGuard[int | float]:
    """Whether a JSON value is a number above 0 that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max
