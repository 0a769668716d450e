"""Bytes of a text file, or of standard input, to text: byte order marks, UTF-16, and bytes that are no text."""

from __future__ import annotations

import codecs

# UTF-32's mark for little-endian text begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "UTF-8"),
    (codecs.BOM_UTF32_LE, "UTF-32-LE"),
    (codecs.BOM_UTF32_BE, "UTF-32-BE"),
    (codecs.BOM_UTF16_LE, "UTF-16-LE"),
    (codecs.BOM_UTF16_BE, "UTF-16-BE"),
)


def decode_text(contents: bytes, *, errors: str = "replace") -> str:
    """Return the text of a file without its byte order mark.

    The text is UTF-8 unless a mark says UTF-16 or UTF-32. Without a mark it is UTF-16 where most of the bytes at even
    places are NUL and none at odd ones, or the other way round: no text in UTF-8 holds NUL.

    Args:
        contents: All bytes of the file.
        errors: "replace" puts U+FFFD in the place of bytes that are no text; "strict" raises.

    Raises:
        UnicodeDecodeError: With "strict": at which byte, and in which encoding.
    """
    mark, encoding = next(
        ((mark, name) for mark, name in _MARKS if contents.startswith(mark)), (b"", _without_mark(contents))
    )
    try:
        return contents[len(mark) :].decode(encoding, errors)
    except UnicodeDecodeError as error:
        start, end = error.start + len(mark), error.end + len(mark)
        raise UnicodeDecodeError(encoding, contents, start, end, error.reason) from error


def without_file_ends(text: str) -> str:
    """Return what a file says, whatever system wrote it: its lines end with a line feed, and the last one with none."""
    return text.replace("\r\n", "\n").rstrip("\r\n")


def _without_mark(contents: bytes) -> str:
    if len(contents) % 2:
        return "UTF-8"
    low, high, half = contents[::2].count(0), contents[1::2].count(0), len(contents) / 4
    if high > half and not low:
        return "UTF-16-LE"
    return "UTF-16-BE" if low > half and not high else "UTF-8"
