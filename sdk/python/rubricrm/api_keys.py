"""Keys of servers, from files: a command line can be read by others."""

from __future__ import annotations

from pathlib import Path

from rubricrm.errors import OptionInvalid


def read_keys(file: Path) -> tuple[str, ...]:
    """Return the keys in a file, one per line.

    Raises:
        OptionInvalid: The file cannot be read, holds no key, or one that HTTP headers cannot carry.
    """
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise OptionInvalid(f"{file}: the keys cannot be read ({error}).") from error
    if not any(lines):
        raise OptionInvalid(f"{file}: holds no key, expected one per line.")
    return checked_keys(lines)


def checked_keys(found: list[str]) -> tuple[str, ...]:
    """Return the keys that are not blank.

    Raises:
        OptionInvalid: HTTP headers cannot carry one of them.
    """
    keys = tuple(key.strip() for key in found if key.strip())
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise OptionInvalid(
            "a key holds characters beyond printable ASCII, which HTTP headers cannot carry. Make another."
        )
    return keys
