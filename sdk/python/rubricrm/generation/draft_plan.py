"""How many drafted tokens of each sequence a step verifies: those whose rows cost less than they bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rubricrm.generation.drafting import Draft
from rubricrm.generation.step_cost import StepCost

# Tokens that the time of one plain token is worth: as many as drafting makes of it, since that is what else would be
# done with the time. Replay gives the same speed within 1 % for 1.3 to 1.8 (docs/BENCHMARKING.md).
_PACE = 1.4


@dataclass(frozen=True)
class DraftPlan:
    """What one step verifies.

    Attributes:
        lengths: Drafted tokens, by sequence.
        prices: What their rows cost, in tokens of plain decoding; by sequence.
    """

    lengths: tuple[int, ...]
    prices: tuple[float, ...]


def plan_drafts(
    drafts: Sequence[Draft],
    credits: Sequence[float],
    cost: StepCost,
    rows_left: int,
    other_rows: int = 0,
) -> DraftPlan:
    """Share a step's rows among the drafts of its sequences, so that the step makes the most of its time.

    The tokens of all drafts compete by their chance; as many get a row as make the expected tokens, less the price of
    the rows at what tokens are worth, the greatest. Where nothing pays, nobody gets one. A sequence never gets more
    rows than its credit pays for at the step's price without the others' drafts; with several sequences the rows may
    cost more, which its credit owes then.

    Costs 6 microseconds for one sequence, 15 for eight.

    Args:
        drafts: One per sequence that decodes; an empty one where it does not draft.
        credits: What each may still spend (`DraftCredit.tokens`).
        cost: Of steps on this machine.
        rows_left: Rows that may be added.
        other_rows: Rows of the step that are not of these sequences, as a chunk of a prompt is.
    """
    plain_rows = len(drafts) + other_rows
    limits = [
        _affordable(len(draft), credit, cost, plain_rows, len(drafts))
        for draft, credit in zip(drafts, credits, strict=True)
    ]
    chances = sorted(
        ((draft.chances[position], index) for index, draft in enumerate(drafts) for position in range(limits[index])),
        key=lambda candidate: -candidate[0],
    )
    best, wins, expected = 0.0, 0, 0.0
    for rows, (chance, _) in enumerate(chances[: max(0, rows_left)], 1):
        expected += chance
        gain = expected - _PACE * _price(rows, cost, plain_rows, len(drafts))
        if gain > best:
            best, wins = gain, rows
    lengths = [0] * len(drafts)
    for _, index in chances[:wins]:
        lengths[index] += 1
    each = _price(wins, cost, plain_rows, len(drafts)) / wins if wins else 0.0
    return DraftPlan(tuple(lengths), tuple(each * length for length in lengths))


def _price(rows: int, cost: StepCost, plain_rows: int, num_sequences: int) -> float:
    """Return what more rows cost, in tokens that plain decoding of all sequences writes in that time."""
    plain = cost.seconds(plain_rows)
    return (cost.seconds(plain_rows + rows) - plain) / plain * num_sequences


def _affordable(length: int, credit: float, cost: StepCost, plain_rows: int, num_sequences: int) -> int:
    """Return how many rows a credit pays for."""
    while length and _price(length, cost, plain_rows, num_sequences) > credit:
        length -= 1
    return length
