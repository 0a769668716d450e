"""A tokenizer whose tokens are bytes, as far as drafting asks for one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from rubricrm.generation.item_number import ItemNumbers
from rubricrm.runtime.tokenizer import Tokenizer


class ByteTokenizer:
    """Stands in for `Tokenizer`; a token's id is its byte."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(ids).decode()


NUMBERS = ItemNumbers(cast("Tokenizer", ByteTokenizer()))
