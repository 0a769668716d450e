"""What a command is given to read, standard input or a file, as text that a model may get."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rubricrm.errors import RequestInvalid
from rubricrm.text_file import decode_text, without_file_ends


def standard_input() -> bytes:
    """Return all of standard input.

    Raises:
        UsageError: It is closed.
    """
    if sys.stdin is None:
        raise click.UsageError("Standard input is closed.")
    return sys.stdin.buffer.read()


def standard_input_text() -> str:
    """Return the text of standard input.

    Raises:
        RequestInvalid: It is no text.
    """
    return _text_of(standard_input(), "standard input")


def file_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        RequestInvalid: It cannot be read, or is no text.
    """
    try:
        return _text_of(path.read_bytes(), str(path))
    except OSError as error:
        raise RequestInvalid(f"{path}: cannot be read ({error.strerror}). Pass a file of text.") from error


def _text_of(contents: bytes, where: str) -> str:
    try:
        return without_file_ends(decode_text(contents, errors="strict"))
    except UnicodeDecodeError as error:
        raise RequestInvalid(
            f"{where}: not {error.encoding} at byte {error.start} ({error.reason}). Convert it to UTF-8, with iconv "
            "say."
        ) from error
