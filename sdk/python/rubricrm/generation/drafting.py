"""Drafts: tokens that may follow, so that one step verifies several. What is written stays exactly the same.

The model decides every token of a step of 1 + k rows, k of which hold drafted tokens: the rows are right as far as the
draft is what was decided. Drafts come from the grammar's forced tokens, the next item's number, this sequence's own
text and the phrases of finished rubrics. `draft_plan` says how many of them are worth their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rubricrm.generation.acceptance import Acceptance, DraftSource, grade
from rubricrm.generation.draft_credit import DraftCredit
from rubricrm.generation.item_number import NUMBER, ItemNumbers, Reading
from rubricrm.generation.next_token import NextToken, foreseen
from rubricrm.generation.phrase_table import PhraseTable

# A text's own habits are learned after one or two occurrences and unlearned as fast.
_MOST_OWN_HITS = 3
# What is less likely is worth no row on any machine where a row costs more than this part of a step.
_LEAST_CHANCE = 0.05
_FORCED = grade(DraftSource.GRAMMAR, 1.0)
_COUNTED = grade(DraftSource.NUMBER, 1.0)


class TokenRules(Protocol):
    """What drafting asks of a grammar. States are the grammar's own."""

    def forced(self, state: int, limit: int) -> list[int]:
        """Return the tokens that must follow, `limit` at most; none where there is a choice."""

    def next(self, state: int, token_id: int) -> int:
        """Return the state after a token, -1 where it is refused."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may follow.

    Attributes:
        token_ids: In order.
        grades: Source and sureness of each, as `acceptance.grade` makes them.
        chances: That each token and all before it come true, so they never rise.
    """

    token_ids: list[int] = field(default_factory=list)
    grades: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.token_ids)


class Drafter:
    """Drafts for one sequence. All that it knows ends with the sequence; only the table of phrases outlives it.

    Used by one thread at a time. Costs 1 to 1.5 microseconds per token of the prompt and per decided one, 3 per drafted
    one (20 for seven), and 260 bytes per token of the prompt.

    Args:
        prompt_ids: Of this sequence.
        numbers: Of its tokenizer.
        phrases: Of finished rubrics, or None. It is only read.

    Attributes:
        acceptance: What became of its drafts.
        credit: What they may still cost.
    """

    def __init__(self, prompt_ids: Sequence[int], numbers: ItemNumbers, phrases: PhraseTable | None = None) -> None:
        self.acceptance = Acceptance()
        self.credit = DraftCredit()
        self._phrases = phrases
        self._own = NextToken(_MOST_OWN_HITS)
        self._reading = Reading(numbers)
        for token_id in prompt_ids:
            self.push(token_id)
        self._reading.begin_list()

    def push(self, token_id: int) -> None:
        """Take in a token that was decided."""
        context, symbol = self._reading.context, self._reading.read(token_id)
        if symbol >= 0:
            self._own.count(context, symbol)

    def propose(self, limit: int, rules: TokenRules | None = None, state: int = 0) -> Draft:
        """Return what may follow, `limit` tokens at most. Changes nothing.

        Args:
            limit: What rows and the budget of tokens leave.
            rules: The grammar, where the output has one. Nothing is drafted that it refuses.
            state: The grammar's, after the last token that was pushed.
        """
        draft, ahead, chance = Draft(), self._reading.copy(), 1.0
        sources = self._sources()
        while len(draft) < limit:
            following, of_grade = _following(ahead, sources, rules, state, limit - len(draft))
            for token_id in following:
                chance *= self.acceptance.chance(of_grade)
                if rules is not None:
                    state = rules.next(state, token_id)
                if state < 0 or chance < _LEAST_CHANCE:
                    return draft
                draft.token_ids.append(token_id)
                draft.grades.append(of_grade)
                draft.chances.append(chance)
                ahead.read(token_id)
            if not following:
                break
        return draft

    def settle(self, draft: Draft, length: int, num_accepted: int, price: float) -> None:
        """Note what became of the first `length` tokens of a draft, which cost `price` (`DraftPlan.prices`)."""
        for position in range(min(length, num_accepted + 1)):
            self.acceptance.record(draft.grades[position], accepted=position < num_accepted)
        self.credit.settle(price, num_accepted)

    def _sources(self) -> list[tuple[int, Mapping[int, int]]]:
        """Return what is known of next tokens, the most general first."""
        known: list[tuple[int, Mapping[int, int]]] = [(DraftSource.TEXT, self._own.entries)]
        if self._phrases is not None:
            known.insert(0, (DraftSource.PHRASES, self._phrases.entries))
        return known


def _following(
    ahead: Reading, sources: list[tuple[int, Mapping[int, int]]], rules: TokenRules | None, state: int, limit: int
) -> tuple[Sequence[int], int]:
    """Return the next drafted tokens, `limit` at most, and their grade: of the best source that knows any."""
    forced = rules.forced(state, limit) if rules is not None else ()
    if forced:
        return forced[:limit], _FORCED
    if rest := ahead.rest():
        return rest[:limit], _COUNTED
    symbol, probability, source = foreseen(ahead.context, sources)
    if symbol < 0:
        return (), 0
    # Of a number of several tokens the others are certain after the first: they come as its rest.
    token_ids = ahead.next_number()[:1] if symbol == NUMBER else (symbol,)
    return token_ids, grade(DraftSource(source), probability)
