"""Which token followed which: the statistics that drafts are made of.

A context is the last one to three symbols (a token, or `item_number.NUMBER`), packed into one integer. For each context
the most frequent recent successor is kept, and how often it was right: a few dozen bytes, whatever came after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_BITS = 20
_ONE, _TWO, _THREE = ((1 << _BITS * symbols) - 1 for symbols in (1, 2, 3))
# A number for how much less a context's own count says than it seems to, and one for the weight of the shorter context:
# absolute discounting and interpolation, as in Kneser-Ney models. Any values near these do (docs/BENCHMARKING.md).
_DISCOUNT = 0.3
_LONGEST_FIRST = (_THREE, _TWO, _ONE)
_SHORTEST_FIRST = ((_ONE, 0, 2.0), (_TWO, _ONE, 1.0), (_THREE, _TWO, 1.0))
MOST_HITS = 15  # that an entry has bits for

MOST_SYMBOLS = _ONE  # a packed symbol is its value plus one
EMPTY = 0  # the context of the first symbol


def extended(context: int, symbol: int) -> int:
    """Return the context after one more symbol; a token id too large for it empties the context."""
    return EMPTY if symbol >= MOST_SYMBOLS else (context << _BITS | symbol + 1) & _THREE


def symbols_of(context: int) -> list[int]:
    """Return the symbols of a packed context, the earliest first."""
    found = []
    while context:
        found.append((context & _ONE) - 1)
        context >>= _BITS
    return found[::-1]


class NextToken:
    """What followed each context, and how often that was so.

    Attributes:
        entries: Context -> successor << 8 | hits << 4 | occurrences. The two counts are halved together when
            occurrences pass `most_hits`: what a text does now weighs more than what it did.
    """

    def __init__(self, most_hits: int = MOST_HITS) -> None:
        self.entries: dict[int, int] = {}
        self._most_hits = most_hits

    def count(self, context: int, symbol: int) -> None:
        """Note that a symbol followed a context.

        A shorter context is told only of what the longer ones did not foresee, so that it says what follows in a new
        place: after a period, say, that neither ended the number of an item nor came after a known word.
        """
        entries = self.entries
        for mask in _LONGEST_FIRST:
            key = context & mask
            if key <= mask >> _BITS or symbol >= MOST_SYMBOLS:
                continue  # there are fewer symbols than that
            entry = entries.get(key)
            if entry is None:
                entries[key] = symbol << 8 | 0x11
            elif entry >> 8 == symbol:
                entries[key] = self._packed(symbol, (entry >> 4 & 15) + 1, (entry & 15) + 1)
                return
            else:
                hits = (entry >> 4 & 15) - 1
                entries[key] = self._packed(*((entry >> 8, hits) if hits > 0 else (symbol, 1)), (entry & 15) + 1)

    def _packed(self, symbol: int, hits: int, occurrences: int) -> int:
        if occurrences > self._most_hits:
            hits, occurrences = (hits + 1) // 2, occurrences // 2
        return symbol << 8 | hits << 4 | occurrences


def foreseen(context: int, sources: Sequence[tuple[int, Mapping[int, int]]]) -> tuple[int, float, int]:
    """Return the likeliest next symbol by several sources, its probability, and which source named it.

    From the shortest context to the longest, each source in turn corrects what is known so far: the later source and
    the longer context decide where they were right often.

    Args:
        context: As `extended` makes it.
        sources: A name and `NextToken.entries` each, the most general one first.

    Returns:
        (-1, 0.0, -1) where no context was ever seen. Costs 2 microseconds.
    """
    best, probability, named_by = -1, 0.0, -1
    for mask, shorter, weight in _SHORTEST_FIRST:
        key = context & mask
        if key <= shorter:
            break
        for name, entries in sources:
            entry = entries.get(key)
            if entry is None:
                continue
            total = (entry & 15) + weight
            own = ((entry >> 4 & 15) - _DISCOUNT) / total
            inherited = (weight + _DISCOUNT) / total * probability
            if entry >> 8 == best:
                probability = own + inherited
            elif own >= inherited:
                best, probability, named_by = entry >> 8, own, name
            else:
                probability = inherited
    return best, probability, named_by
