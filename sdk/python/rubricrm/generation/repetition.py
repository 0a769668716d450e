"""Tells when a generation goes in circles, as a model does that lost its way.

A text goes in circles when its end is one cycle of at most 128 tokens, at least 4 times in a row, and

- at least 96 tokens long, if the cycle holds a letter; or
- at least 256 tokens long, if it holds none (a rule of dashes, a matrix of zeros).

Lists that count are seen too: a number, all its digits together, is then one token, and a cycle may differ from the one
before it in its numbers. Those that differ must count up by 1 from each to the next ("1. ... 2. ... 3. ..."), and the
cycle's letters must have at least 12 bytes in UTF-8, so that neither rows of numbers nor "Step 1, Step 2" are a circle.

The rule knows tokens and text only: it is the same for greedy and sampled tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PERIOD = 128
_MIN_CYCLES = 4
_MIN_TOKENS = 96
_MIN_TOKENS_WITHOUT_LETTERS = 256
_MIN_LETTER_BYTES_OF_LIST = 12
_MAX_DIGITS = 18
# Symbols that are no tokens.
_NUMBER, _NOTHING = -1, -2


class RepetitionDetector:
    """Takes the tokens of one generation. Costs about 10 microseconds per token, and keeps all tokens."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        """`token_bytes` returns what a token stands for."""
        self._token_bytes = token_bytes
        self._tokens = _Symbols()
        self._counted = _Symbols()  # numbers are one symbol each
        self._numbers: dict[int, int] = {}  # by their position in `_counted`
        self._digits = b""  # of a number that may go on

    def push(self, token_id: int) -> bool:
        """Take the next token; return whether the text goes in circles with it."""
        self._tokens.push(token_id)
        self._push_counted(token_id)
        return self._is_circle() or self._is_counting_list()

    def _push_counted(self, token_id: int) -> None:
        written = self._token_bytes(token_id)
        digits = written.strip()
        is_number = digits.isdigit()
        if self._digits and not (is_number and written.startswith(digits)):
            self._numbers[len(self._counted.all)] = int(self._digits[:_MAX_DIGITS])
            self._counted.push(_NUMBER)
            self._digits = b""
        if is_number:
            self._digits += digits
        else:
            self._counted.push(token_id)

    def _is_circle(self) -> bool:
        period, length = self._tokens.cycle()
        if not period:
            return False
        return length >= _MIN_TOKENS_WITHOUT_LETTERS or self._letter_bytes(self._tokens.all[-period:]) > 0

    def _is_counting_list(self) -> bool:
        period, length = self._counted.cycle()
        # Numbers are compared once per cycle: that is soon enough, and cheap where they never count.
        if not period or length % period:
            return False
        end = len(self._counted.all)
        positions = [at for at in range(end - length, end) if at in self._numbers]
        changing = {
            at % period for at in positions if self._numbers.get(at - period, -1) not in (-1, self._numbers[at])
        }
        counting = [self._numbers[at] for at in positions if at % period in changing]
        counts_up = changing and all(after == before + 1 for before, after in pairwise(counting))
        return bool(counts_up) and self._letter_bytes(self._counted.all[-period:]) >= _MIN_LETTER_BYTES_OF_LIST

    def _letter_bytes(self, cycle: Sequence[int]) -> int:
        """Count the bytes of a cycle's letters. A character that the cycle's ends cut in two is left out."""
        text = b"".join(self._token_bytes(symbol) for symbol in cycle if symbol != _NUMBER).decode(errors="ignore")
        return sum(len(character.encode()) for character in text if character.isalpha())


class _Symbols:
    """A sequence of tokens, and with which periods its end repeats itself."""

    def __init__(self) -> None:
        import numpy as np

        self.all: list[int] = []
        self._periods = np.arange(MAX_PERIOD, 0, -1)
        self._needed = np.maximum(_MIN_TOKENS, _MIN_CYCLES * self._periods)
        self._recent: NDArray[np.int64] = np.full(MAX_PERIOD, _NOTHING)  # [period]: the symbol that far back
        self._lengths: NDArray[np.int64] = self._periods.copy()  # [period]: how long the end with this period is

    def push(self, symbol: int) -> None:
        self.all.append(symbol)
        self._lengths += 1
        is_other = self._recent != symbol
        self._lengths[is_other] = self._periods[is_other]
        self._recent[:-1] = self._recent[1:]
        self._recent[-1] = symbol

    def cycle(self) -> tuple[int, int]:
        """Return the shortest period with which the end repeats itself long enough, and that end's length; or 0, 0."""
        found = (self._lengths >= self._needed).nonzero()[0]
        return (int(self._periods[found[-1]]), int(self._lengths[found[-1]])) if len(found) else (0, 0)
