"""The numbers of a list's items: the tokens that spell them, and the one symbol that stands for all of them.

What follows an item is its successor's number, which has never been in the text before. A source of drafts that takes
every number for the same symbol sees the pattern, and the number itself is counted.
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
    """Where a text stands: the context of its next symbol, the number that is being written, the last item's number.

    Attributes:
        context: As `next_token.extended` makes it.
        digits: Of the number that the text ends with; nothing where it ends otherwise.
        item: The number of the last item, None before the first.
    """

    __slots__ = ("_numbers", "context", "digits", "item")

    def __init__(self, numbers: ItemNumbers) -> None:
        self._numbers = numbers
        self.context = EMPTY
        self.digits = ""
        self.item: int | None = None

    def copy(self) -> Reading:
        """Return one that goes on by itself."""
        other = Reading(self._numbers)
        other.context, other.digits, other.item = self.context, self.digits, self.item
        return other

    def begin_list(self) -> None:
        """Forget the numbers, not the context: an answer's list counts for itself, whatever the prompt listed."""
        self.digits, self.item = "", None

    def read(self, token_id: int) -> int:
        """Go on by a token; return its symbol, -1 where it only goes on with a number."""
        digits = self._numbers.digits.get(token_id)
        if digits is not None:
            self.digits += digits
            if self.digits != digits:
                return -1
            self.context = extended(self.context, NUMBER)
            return NUMBER
        if self.digits:
            self._end_number(token_id)
        self.context = extended(self.context, token_id)
        return token_id

    def rest(self) -> tuple[int, ...]:
        """Return the tokens that the next item's number still lacks, if it is that one which is being written."""
        return self._numbers.rest((self.item or 0) + 1, self.digits) if self.digits else ()

    def next_number(self) -> tuple[int, ...]:
        """Return the tokens of the next item's number."""
        return self._numbers.spelled((self.item or 0) + 1)

    def _end_number(self, token_id: int) -> None:
        """Take a number for an item's if it is the next one. The first may be any: the text may be an excerpt."""
        if self._numbers.is_mark(token_id) and (self.item is None or self.digits == str(self.item + 1)):
            self.item = int(self.digits)
        self.digits = ""
