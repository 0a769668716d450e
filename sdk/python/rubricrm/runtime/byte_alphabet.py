"""The alphabet of byte-level BPE: a character for each byte, in which vocabularies spell their tokens."""

from __future__ import annotations

from collections.abc import Iterable

# GPT-2's alphabet: a byte that prints is its own Latin-1 character, the other 68 are U+0100 and up, in order.
_PRINTABLE_BYTES = frozenset((*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))
_OTHER_BYTES = tuple(byte for byte in range(256) if byte not in _PRINTABLE_BYTES)
_BYTE_CHARACTERS = frozenset(map(chr, _PRINTABLE_BYTES)) | {chr(0x100 + n) for n in range(len(_OTHER_BYTES))}
# A character outside the alphabet becomes one that Latin-1 cannot hold: then the token is no sequence of bytes.
_TO_LATIN_1 = {0x100 + n: byte for n, byte in enumerate(_OTHER_BYTES)} | dict.fromkeys(_OTHER_BYTES, 0xFFFF)


def bytes_of(token: str) -> bytes:
    """Return the bytes of a vocabulary entry; one that is not all in the byte alphabet stands for itself."""
    try:
        return token.translate(_TO_LATIN_1).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode()


def spelling_of(byte: int) -> str:
    """Return the character that spells a byte."""
    return chr(byte) if byte in _PRINTABLE_BYTES else chr(0x100 + _OTHER_BYTES.index(byte))


def lacking_bytes(vocab: Iterable[str]) -> bytes:
    """Return the bytes without an entry. Some vocabularies have none for control characters; Qwen3's has all 256."""
    return bytes(map(ord, (c.translate(_TO_LATIN_1) for c in sorted(_BYTE_CHARACTERS.difference(vocab)))))
