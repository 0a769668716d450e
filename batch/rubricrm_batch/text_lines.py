"""Bytes of a text file, line by line, whatever they hold."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.source import MALFORMED, Fault

# Longer ones are no rows: something without line breaks. They must not fill the memory.
MOST_BYTES = 64 << 20
_SHOWN_BYTES = 1000
_FOREIGN_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


@contextmanager
def text_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressed if its name says that it is compressed, after its byte order mark.

    Raises:
        InputInvalid: It cannot be read, is damaged, or is UTF-16 or UTF-32.
    """
    try:
        with pa.input_stream(str(path), compression="detect") as stream, io.BufferedReader(stream, 1 << 20) as file:
            start = file.peek(4)[:4]
            if start.startswith(_FOREIGN_MARKS):
                raise InputInvalid(f"{path}: is UTF-16 or UTF-32, expected UTF-8. Convert it, with iconv say.")
            if start.startswith(codecs.BOM_UTF8):
                file.read(len(codecs.BOM_UTF8))
            yield file
    except (OSError, pa.ArrowInvalid) as error:
        raise InputInvalid(f"{path}: cannot be read ({error}).") from error


def text_lines(path: Path) -> Iterator[tuple[int, bytes | Fault]]:
    """Yield each line with its number, from 1. A line of more than 64 MiB is a fault.

    Raises:
        InputInvalid: As `text_file`.
    """
    with text_file(path) as file:
        number = 0
        while line := file.readline(MOST_BYTES + 1):
            number += 1
            if len(line) <= MOST_BYTES:
                yield number, line
                continue
            shown = readable(line[:_SHOWN_BYTES])
            while line and not line.endswith(b"\n"):
                line = file.readline(MOST_BYTES)
            yield number, Fault(MALFORMED, f"the line has more than {MOST_BYTES} bytes; the first are kept.", shown)


def readable(line: bytes) -> str:
    r"""Return bytes as text, those that are no UTF-8 as \xff."""
    return line.rstrip(b"\r\n").decode(errors="backslashreplace")
