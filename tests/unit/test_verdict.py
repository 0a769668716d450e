"""Votes become a verdict where more than half of the samples of each order are votes, and else no number."""

import json
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.errors import OptionInvalid
from rubricrm.judge.judgment import Choice
from rubricrm.judge.verdict import GIVEN, SWAPPED, Order, Reason, Scored, Unscored, Verdict, Vote, score, tally

Letters = Sequence[str]
choices = st.sampled_from(["A", "B", "-"])
orders = st.lists(choices, min_size=1, max_size=7)


def votes(order: Order, letters: Letters) -> list[Vote]:
    """One vote a letter; a dash is none."""
    found: dict[str, Choice | None] = {"A": "A", "B": "B", "-": None}
    return [Vote(order, found[letter], n, () if found[letter] else ("no_winner",)) for n, letter in enumerate(letters)]


def both(given_order: Letters, swapped: Letters) -> Verdict | Unscored:
    return tally([*votes(GIVEN, given_order), *votes(SWAPPED, swapped)])


def verdict(given_order: Letters, swapped: Letters) -> Verdict:
    found = both(given_order, swapped)
    assert isinstance(found, Verdict)
    return found


@pytest.mark.parametrize(
    ("given_order", "swapped", "winner", "consistent", "value"),
    [
        ("A", "A", "A", True, 1.0),  # equations 14 to 16 of the paper: both, one or none of the two orders
        ("A", "B", "tie", False, 0.5),
        ("B", "A", "tie", False, 0.5),
        ("B", "B", "B", True, 0.0),
        ("AAB", "ABB", "tie", False, 0.5),
        ("AAA", "ABB", "A", False, 0.5),
        ("AAB", "AAB", "A", True, 1.0),
        ("AB", "AB", "tie", True, 0.5),
        ("AB", "AA", "A", False, 0.75),
        # What it sees first wins always, and two samples of one order are no votes: that decides nothing.
        ("AAAAA", "BBB--", "tie", False, 0.5),
    ],
)
def test_both_orders_weigh_the_same(
    given_order: str, swapped: str, winner: str, consistent: bool, value: float
) -> None:
    found = verdict(given_order, swapped)
    assert (found.winner, found.consistent) == (winner, consistent)
    assert score(found).value == value


@given(orders, orders)
def test_there_is_a_verdict_exactly_where_more_than_half_of_each_order_are_votes(a: list[str], b: list[str]) -> None:
    found = both(a, b)
    has_quorum = all(2 * sum(letter != "-" for letter in letters) > len(letters) for letters in (a, b))
    assert isinstance(found, Verdict) == has_quorum
    if isinstance(found, Unscored):
        assert found.reason is Reason.NO_QUORUM
        assert "expected more than half" in found.detail
        assert not hasattr(found, "value")
        with pytest.raises(OptionInvalid):
            Verdict(found.votes)


@given(orders, orders)
def test_numbers_add_up_and_names_may_be_exchanged(a: list[str], b: list[str]) -> None:
    found = both(a, b)
    if isinstance(found, Unscored):
        return
    assert found.votes_for_a + found.votes_for_b + found.no_vote == len(found.votes) == len(a) + len(b)
    exchange = {"A": "B", "B": "A", "-": "-", "tie": "tie"}
    other = verdict([exchange[letter] for letter in b], [exchange[letter] for letter in a])
    assert other.winner == exchange[found.winner]
    assert other.consistent == found.consistent
    assert Fraction(score(found).value) + Fraction(score(other).value) == 1
    assert 0 <= score(found).value <= 1


@given(st.lists(choices, min_size=1, max_size=7))
def test_one_order_alone_says_nothing_of_consistency(letters: list[str]) -> None:
    found = tally(votes(GIVEN, letters))
    if isinstance(found, Verdict):
        assert found.consistent is None
        assert found.winner == found.winner_of(GIVEN)


@given(orders, orders, st.data())
def test_an_invalid_sample_never_turns_a_verdict(a: list[str], b: list[str], data: st.DataObject) -> None:
    before = both(a, b)
    place = data.draw(st.integers(0, len(a)))
    after = both([*a[:place], "-", *a[place:]], b)
    if isinstance(before, Verdict) and isinstance(after, Verdict):
        assert after.winner == before.winner
        assert score(after).value == score(before).value


def test_no_samples_are_no_verdict() -> None:
    found = tally([])
    assert isinstance(found, Unscored)
    assert not found.retryable


@pytest.mark.parametrize(
    ("lost", "reason", "retryable"),
    [
        ((Vote(GIVEN, None, 1, ("truncated",)),), "truncated", False),
        ((Vote(GIVEN, None, 1, ("truncated",), retryable=True),), "truncated", True),
        ((Vote(GIVEN, None, 1, ("truncated",)), Vote(GIVEN, None, 2, ("no_winner",))), "no_quorum", False),
        ((Vote(GIVEN, None, None, failure="ENGINE_BUSY: full", retryable=True),), "judge_failed", True),
        (
            (Vote(GIVEN, None, 1, ("truncated",)), Vote(GIVEN, None, None, failure="RUNTIME_FAILED: x")),
            "judge_failed",
            False,
        ),
    ],
)
def test_the_reason_says_what_was_lost(lost: tuple[Vote, ...], reason: str, retryable: bool) -> None:
    found = tally([*lost, Vote(SWAPPED, "A", 1)])
    assert isinstance(found, Unscored)
    assert (found.reason, found.retryable) == (reason, retryable)
    for vote in lost:
        assert vote.failure is None or vote.failure in found.detail
        assert all(issue in found.detail for issue in vote.issues)
    assert json.loads(json.dumps(found.to_dict()))["reason"] == reason


def test_a_verdict_as_json() -> None:
    found = verdict("AA-", "ABA")
    scored = score(found)
    assert isinstance(scored, Scored)
    document = json.loads(json.dumps(scored.to_dict()))
    assert document["value"] == 1.0
    assert document["verdict"]["votes_for_a"] == 4
    assert document["verdict"]["no_vote"] == 1
    assert [vote["seed"] for vote in document["verdict"]["votes"]] == list(found.seeds) == [0, 1, 2, 0, 1, 2]
