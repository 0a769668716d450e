"""Rows for drafts, by what they cost and bring."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.generation import draft_plan
from rubricrm.generation.draft_credit import DraftCredit
from rubricrm.generation.draft_plan import plan_drafts
from rubricrm.generation.drafting import Draft
from rubricrm.generation.step_cost import StepCost

FREE = StepCost({1: 1.0, 16: 1.0})
COST = StepCost({1: 0.096, 2: 0.111, 3: 0.111, 4: 0.119, 8: 0.178})


def draft_of(*chances: float) -> Draft:
    falling = list(chances)
    return Draft([7] * len(falling), [0] * len(falling), falling)


drafts = st.lists(
    st.lists(st.floats(0.05, 1), max_size=5).map(lambda chances: draft_of(*sorted(chances, reverse=True))),
    min_size=1,
    max_size=3,
)
costs = st.lists(st.floats(0.05, 4), min_size=2, max_size=8).map(
    lambda times: StepCost(dict(enumerate(sorted(times), 1)))
)


def worth(lengths: tuple[int, ...], of: list[Draft], cost: StepCost, other_rows: int) -> float:
    rows = len(of) + other_rows
    price = (cost.seconds(rows + sum(lengths)) / cost.seconds(rows) - 1) * len(of)
    return (
        sum(sum(draft.chances[:length]) for draft, length in zip(of, lengths, strict=True)) - draft_plan._PACE * price
    )


@given(drafts, costs, st.integers(0, 9), st.integers(0, 4))
def test_no_other_shares_are_worth_more(of: list[Draft], cost: StepCost, rows_left: int, other_rows: int) -> None:
    plan = plan_drafts(of, [1e9] * len(of), cost, rows_left, other_rows)
    assert sum(plan.lengths) <= rows_left
    every = product(*(range(len(draft) + 1) for draft in of))
    best = max(worth(lengths, of, cost, other_rows) for lengths in every if sum(lengths) <= rows_left)
    assert worth(plan.lengths, of, cost, other_rows) == pytest.approx(best, abs=1e-9)


@given(drafts, costs, st.integers(0, 9))
def test_prices_are_what_the_step_takes_longer(of: list[Draft], cost: StepCost, rows_left: int) -> None:
    plan = plan_drafts(of, [1e9] * len(of), cost, rows_left)
    plain = cost.seconds(len(of))
    longer = (cost.seconds(len(of) + sum(plan.lengths)) - plain) / plain * len(of)
    assert sum(plan.prices) == pytest.approx(longer)
    assert all(price == 0 for price, length in zip(plan.prices, plan.lengths, strict=True) if length == 0)


@given(drafts, costs, st.floats(-1, 2))
def test_a_sequence_alone_spends_no_more_than_its_credit(of: list[Draft], cost: StepCost, credit: float) -> None:
    plan = plan_drafts(of[:1], [credit], cost, 9)
    assert plan.prices[0] <= max(0.0, credit)


def test_the_likelier_draft_gets_the_rows_that_are_left() -> None:
    plan = plan_drafts([draft_of(0.9, 0.3), draft_of(0.8, 0.7, 0.6)], [1.0, 1.0], FREE, 3)
    assert plan.lengths == (1, 2)


def test_a_wide_row_is_taken_where_the_narrow_one_does_not_pay() -> None:
    """Four rows cost little more than two: one token alone is not worth it, three are."""
    assert plan_drafts([draft_of(0.18)], [1.0], COST, 7).lengths == (0,)
    assert plan_drafts([draft_of(0.18, 0.18, 0.18)], [1.0], COST, 7).lengths == (3,)


@pytest.mark.parametrize("rows_left", [0, -3])
def test_no_rows_are_left(rows_left: int) -> None:
    assert plan_drafts([draft_of(1.0)], [1.0], FREE, rows_left).lengths == (0,)


def test_no_drafts() -> None:
    assert plan_drafts([], [], FREE, 8, other_rows=4).lengths == ()
    assert plan_drafts([draft_of(), draft_of()], [1.0, 1.0], FREE, 8).lengths == (0, 0)


def test_credit() -> None:
    credit = DraftCredit()
    assert credit.tokens == 1.0
    credit.settle(price=0.5, accepted=0)
    assert credit.tokens == pytest.approx(0.52)
    credit.settle(price=0.5, accepted=3)
    assert credit.tokens == pytest.approx(0.52 + 2.5 + 0.08)
