"""The statistics of what follows what, beside an obvious reference."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.generation.next_token import EMPTY, MOST_HITS, MOST_SYMBOLS, NextToken, extended, foreseen, symbols_of

symbols = st.lists(st.integers(0, 4), max_size=60)


def counted(text: Sequence[int], most_hits: int = MOST_HITS) -> NextToken:
    known, context = NextToken(most_hits), EMPTY
    for symbol in text:
        known.count(context, symbol)
        context = extended(context, symbol)
    return known


def context_of(text: Sequence[int]) -> int:
    context = EMPTY
    for symbol in text:
        context = extended(context, symbol)
    return context


def reference(text: Sequence[int], most_hits: int) -> dict[tuple[int, ...], tuple[int, int, int]]:
    """The rule in its own words, on tuples: successor, hits and occurrences of each context."""
    known: dict[tuple[int, ...], tuple[int, int, int]] = {}
    for end, symbol in enumerate(text):
        for length in range(min(3, end), 0, -1):
            context = tuple(text[end - length : end])
            successor, hits, occurrences = known.get(context, (symbol, 0, 0))
            was_right = successor == symbol and hits > 0
            hits += 1 if successor == symbol else -1
            if hits == 0:
                successor, hits = symbol, 1
            occurrences += 1
            if occurrences > most_hits:
                hits, occurrences = (hits + 1) // 2, occurrences // 2
            known[context] = (successor, hits, occurrences)
            if was_right:
                break
    return known


@given(symbols, st.sampled_from([1, 3, MOST_HITS]))
def test_counts(text: list[int], most_hits: int) -> None:
    found = {
        tuple(symbols_of(context)): (entry >> 8, entry >> 4 & 15, entry & 15)
        for context, entry in counted(text, most_hits).entries.items()
    }
    assert found == reference(text, most_hits)


@given(st.lists(st.integers(0, MOST_SYMBOLS - 1), max_size=6))
def test_a_context_is_the_last_three_symbols(text: list[int]) -> None:
    assert symbols_of(context_of(text)) == text[-3:]


def test_a_token_id_that_does_not_fit_is_in_no_context() -> None:
    text = [1, 2, MOST_SYMBOLS, 3, 4]
    assert symbols_of(context_of(text)) == [3, 4]
    entries = counted(text).entries
    assert {tuple(symbols_of(context)) for context in entries} == {(1,), (3,)}


@given(symbols, symbols, symbols)
def test_what_is_foreseen_was_seen(general: list[int], own: list[int], text: list[int]) -> None:
    sources = [(0, counted(general).entries), (1, counted(own, 3).entries)]
    symbol, probability, source = foreseen(context_of(text), sources)
    if symbol < 0:
        assert (symbol, probability, source) == (-1, 0.0, -1)
        assert not text or all(context_of(text[-1:]) not in entries for _, entries in sources)
    else:
        assert 0 < probability <= 1
        assert symbol in {entry >> 8 for entry in sources[source][1].values()}


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ([1, 2, 3, 1, 2], [1, 2], 3),
        ([1, 2, 3, 9, 1, 2, 4], [1, 2], 4),  # the last occurrence, where each was there once
        ([1, 2, 3, 5, 1, 2, 3, 6, 1, 2, 4], [1, 2], 3),  # the more frequent one
        ([5, 1, 7, 6, 1, 8, 5, 1], [5, 1], 7),  # the longer context before a later, shorter one
        ([], [1], -1),
    ],
)
def test_the_likeliest_token(text: list[int], after: list[int], expected: int) -> None:
    assert foreseen(context_of(after), [(0, counted(text).entries)])[0] == expected


def test_a_new_place_is_foreseen_by_what_follows_in_new_places() -> None:
    """A period after an item's number is followed by one thing, a period after any word by another."""
    number, period, the, tag = 1, 2, 3, 4
    text = [symbol for word in range(10, 20) for symbol in (number, period, the, word, period, tag)]
    assert foreseen(context_of([99, period]), [(0, counted(text).entries)])[0] == tag
    assert foreseen(context_of([number, period]), [(0, counted(text).entries)])[0] == the


def test_a_texts_own_habit_overrules_the_general_one() -> None:
    general, own = counted([1, 2, 3] * 20), counted([1, 2, 4, 1, 2, 4], 3)
    symbol, _, source = foreseen(context_of([1, 2]), [(0, general.entries), (1, own.entries)])
    assert (symbol, source) == (4, 1)
