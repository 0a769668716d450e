"""What the drafts of all sequences of an engine share: the price of rows, the phrases, and the plan of a step."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

from rubricrm.generation.draft_plan import plan_drafts
from rubricrm.generation.drafting import Draft, Drafter
from rubricrm.generation.item_number import ItemNumbers
from rubricrm.generation.phrase_table import PhraseTable
from rubricrm.generation.sequence import Sequence
from rubricrm.generation.step_cost import StepCost

_MOST_DRAFTED = 15  # tokens of one sequence in one step


@dataclass(frozen=True)
class PricedDraft:
    """The part of a draft that a step verifies.

    Attributes:
        draft: All that was drafted.
        token_ids: What gets rows.
        price: What the rows cost, in tokens of plain decoding.
    """

    draft: Draft
    token_ids: list[int]
    price: float


NO_DRAFT = PricedDraft(Draft(), [], 0.0)


class DraftDesk:
    """Makes drafters, shares a step's rows among their drafts, and learns from what was finished.

    Attributes:
        phrases: Of finished rubrics; None: none are kept.
    """

    def __init__(self, cost: StepCost, numbers: ItemNumbers, phrases: PhraseTable | None) -> None:
        self.phrases = phrases
        self._cost = cost
        self._numbers = numbers

    def drafter(self, prompt_ids: list[int], *, is_rubric: bool) -> Drafter:
        """Return the drafter of a sequence; 2 microseconds per token of its prompt."""
        return Drafter(prompt_ids, self._numbers, self.phrases if is_rubric else None)

    def drafts(self, sequences: Items[Sequence], *, rows_left: int, other_rows: int) -> list[PricedDraft]:
        """Return what a step verifies of each sequence; arguments as `plan_drafts`."""
        drafts = [_propose(sequence, min(rows_left, _MOST_DRAFTED)) for sequence in sequences]
        if not any(drafts):
            return [NO_DRAFT] * len(drafts)
        credits = [sequence.drafter.credit.tokens if sequence.drafter else 0.0 for sequence in sequences]
        plan = plan_drafts(drafts, credits, self._cost, rows_left, other_rows)
        return [
            PricedDraft(draft, draft.token_ids[:length], price)
            for draft, length, price in zip(drafts, plan.lengths, plan.prices, strict=True)
        ]

    def settle(self, sequence: Sequence, draft: PricedDraft, num_accepted: int) -> None:
        """Note what became of a draft, an empty one too."""
        if sequence.drafter is None:
            return
        sequence.drafter.settle(draft.draft, len(draft.token_ids), num_accepted, draft.price)
        sequence.drafted_tokens += len(draft.token_ids)
        sequence.accepted_tokens += num_accepted

    def learn(self, sequence: Sequence) -> None:
        """Take in a sequence that ended, if it is a whole rubric."""
        if self.phrases is not None and sequence.is_rubric and sequence.finish_reason == "stop":
            self.phrases.learn(sequence.token_ids)


def _propose(sequence: Sequence, limit: int) -> Draft:
    if sequence.drafter is None:
        return NO_DRAFT.draft
    # The last token that may come is never drafted: no row would follow it.
    limit = min(limit, sequence.tokens_left - 1)
    constraint = sequence.constraint
    if constraint is None:
        return sequence.drafter.propose(limit)
    return sequence.drafter.propose(limit, constraint.grammar, constraint.state)
