"""The check of options that are counts."""

from __future__ import annotations

from rubricrm.errors import OptionInvalid


def check_integer(name: str, value: object, most: int) -> None:
    """Raise OptionInvalid unless a value is an integer from 1 to `most`; True is none."""
    if type(value) is not int or not 1 <= value <= most:
        raise OptionInvalid(f"{name} must be an integer from 1 to {most}, got {value!r:.80}.")
