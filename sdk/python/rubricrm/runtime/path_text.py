"""A path as text. Its bytes need not be UTF-8, and where the locale is C, Python's text of it is another one."""

from __future__ import annotations

import os


def utf8_path(path: str | os.PathLike[str]) -> str | None:
    """Return the path as a library takes it that makes UTF-8 of a str; None where its bytes are no UTF-8."""
    try:
        return path_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return None


def printable_path(path: str | os.PathLike[str]) -> str:
    r"""Return the path, or a text with one in it, as text that UTF-8 can hold: a byte that is no UTF-8 becomes \xff."""
    return path_bytes(path).decode("utf-8", errors="backslashreplace")


def path_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a path: as os.fsencode, which refuses a letter that is not ASCII where the locale is C."""
    return os.fspath(path).encode("utf-8", errors="surrogateescape")
