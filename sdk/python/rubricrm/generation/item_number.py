"""The numbers of a list's items: the tokens that spell them, and the one symbol that stands for all of them.

What follows an item is its successor's number, which was nowhere in the text before. A source of drafts that takes all
of them for the same symbol sees the pattern, and the number itself is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rubricrm.generation.next_token import EMPTY, MOST_SYMBOLS, extended

if TYPE_CHECKING:
    from rubricrm.runtime.tokenizer import Tokenizer

NUMBER = MOST_SYMBOLS - 1  # beside token ids, far above those of any vocabulary
_MOST = 99


class ItemNumbers:
    """How a tokenizer writes 1 to 99.

    Attributes:
        digits: The tokens that numbers are made of -> their text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._spelled = tuple(tuple(tokenizer.encode(str(number))) for number in range(_MOST + 1))
        texts = {token: tokenizer.token_bytes(token) for ids in self._spelled for token in ids}
        self.digits = {token: text.decode() for token, text in texts.items() if text.isdigit()}

    def spelled(self, number: int) -> tuple[int, ...]:
        """Return the tokens of a number; none for one above 99, which no list of criteria reaches."""
        return self._spelled[number] if 0 <= number <= _MOST else ()

    def rest(self, number: int, begun: str) -> tuple[int, ...]:
        """Return the tokens that a number still lacks, given the digits of it that were written."""
        ids = self.spelled(number)
        for length in range(1, len(ids)):
            if "".join(self.digits.get(token, "") for token in ids[:length]) == begun:
                return ids[length:]
        return ()

    def is_mark(self, token_id: int) -> bool:
        """Whether a token is what ends an item's number: "1." or "1)"."""
        return self._tokenizer.token_bytes(token_id).startswith((b".", b")"))


class Reading:
    """Where a text stands: the context of its next symbol, the next item's number as far as it is written, the last's.

    Only the number that is next in the list becomes `NUMBER`. Others are part of the text: a year, a number of words.

    Attributes:
        context: As `next_token.extended` makes it.
        digits: Of the next item's number, where the text ends within or after it.
        item: The number of the last item, 0 before the first.
    """

    __slots__ = ("_numbers", "context", "digits", "item")

    def __init__(self, numbers: ItemNumbers) -> None:
        self._numbers = numbers
        self.context = EMPTY
        self.digits = ""
        self.item = 0

    def copy(self) -> Reading:
        """Return one that goes on by itself."""
        other = Reading(self._numbers)
        other.context, other.digits, other.item = self.context, self.digits, self.item
        return other

    def begin_list(self) -> None:
        """Forget the numbers, not the context: an answer's list counts for itself, whatever the prompt listed."""
        self.digits, self.item = "", 0

    def read(self, token_id: int) -> int:
        """Go on by a token; return its symbol, -1 where it only goes on with the next item's number."""
        symbol, digits = token_id, self._numbers.digits.get(token_id)
        if digits is not None:
            begun = self.digits + digits
            if str(self.item + 1).startswith(begun):
                self.digits = begun
                if begun != digits:
                    return -1
                symbol = NUMBER
            else:
                self.digits = ""
        elif self.digits:
            if self.digits == str(self.item + 1) and self._numbers.is_mark(token_id):
                self.item += 1
            self.digits = ""
        self.context = extended(self.context, symbol)
        return symbol

    def rest(self) -> tuple[int, ...]:
        """Return the tokens that the next item's number still lacks, if it is that one which is being written."""
        return self._numbers.rest(self.item + 1, self.digits) if self.digits else ()

    def next_number(self) -> tuple[int, ...]:
        """Return the tokens of the next item's number."""
        return self._numbers.spelled(self.item + 1)
