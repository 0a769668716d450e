"""What a drafter proposes, and that it never costs much."""

from collections.abc import Sequence

import pytest
from byte_tokenizer import NUMBERS
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.generation.acceptance import Acceptance, DraftSource, grade, source_of
from rubricrm.generation.draft_plan import plan_drafts
from rubricrm.generation.drafting import Draft, Drafter, TokenRules
from rubricrm.generation.phrase_table import PhraseTable
from rubricrm.generation.step_cost import StepCost
from rubricrm.runtime.prompt import common_prefix

texts = st.text("ab1. ", max_size=50)
COST = StepCost({1: 0.096, 2: 0.114, 3: 0.111, 4: 0.119, 8: 0.178})
EIGHT_ITEMS = "".join(f"{number}. Write now [Hard]\n" for number in range(1, 9))


def drafter_of(prompt: str, written: str = "", phrases: PhraseTable | None = None) -> Drafter:
    drafter = Drafter(prompt.encode(), NUMBERS, phrases)
    for byte in written.encode():
        drafter.push(byte)
    return drafter


def table_of(text: str) -> PhraseTable:
    table = PhraseTable(NUMBERS)
    table.learn(text.encode())
    return table


class Digits:
    """A grammar of digits that grow by one, and nothing after 9: each is forced from 5 on."""

    def forced(self, state: int, limit: int) -> list[int]:
        return [48 + digit for digit in range(state, 10)][:limit] if state >= 5 else []

    def next(self, state: int, token_id: int) -> int:
        return state + 1 if token_id == 48 + state else -1


@given(texts, texts, texts, st.integers(0, 12))
def test_a_draft_is_bounded_and_changes_nothing(prompt: str, written: str, learned: str, limit: int) -> None:
    drafter = drafter_of(prompt, written, table_of(learned))
    draft = drafter.propose(limit)
    assert len(draft) == len(draft.grades) == len(draft.chances) <= limit
    assert all(0 < chance <= 1 for chance in draft.chances)
    assert draft.chances == sorted(draft.chances, reverse=True)
    assert drafter.propose(limit) == draft
    assert drafter.propose(limit + 1).token_ids[:limit] == draft.token_ids


@given(texts, texts, texts)
def test_a_draft_holds_what_was_seen_and_numbers(prompt: str, written: str, learned: str) -> None:
    draft = drafter_of(prompt, written, table_of(learned)).propose(12)
    assert set(draft.token_ids) <= {*(prompt + written + learned).encode(), *b"0123456789"}


@given(texts, texts)
def test_tables_know_nothing_of_each_other(prompt: str, learned: str) -> None:
    mine, theirs = PhraseTable(NUMBERS), PhraseTable(NUMBERS)
    before = drafter_of(prompt, phrases=mine).propose(12)
    theirs.learn((learned + "secret" + prompt).encode())
    drafter_of("", learned, theirs)
    assert drafter_of(prompt, phrases=mine).propose(12) == before
    assert before == drafter_of(prompt).propose(12)


def test_a_sequence_teaches_its_table_nothing() -> None:
    table = PhraseTable(NUMBERS)
    drafter_of(EIGHT_ITEMS, EIGHT_ITEMS, table)
    assert not table.entries


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (EIGHT_ITEMS, "9. Write now"),
        (f"{EIGHT_ITEMS}9. Write now [Hard]\n", "10. Write"),
        (f"{EIGHT_ITEMS}9. Write now [Hard]\n1", "0. Write"),
        (f"{EIGHT_ITEMS}9. Write now [Hard", "]\n10. Wr"),
    ],
)
def test_numbers_are_counted(written: str, expected: str) -> None:
    token_ids = drafter_of("Write 7. items", written).propose(60).token_ids
    assert bytes(token_ids).decode().startswith(expected)


def test_the_text_itself_goes_before_what_others_wrote() -> None:
    table = table_of("ab! " * 50)
    assert bytes(drafter_of("", "ab? " * 4 + "ab", table).propose(1).token_ids) == b"?"
    assert bytes(drafter_of("", "ab", table).propose(1).token_ids) == b"!"


def test_forced_tokens_go_first() -> None:
    drafter = drafter_of("", "ax ax ax ax a")
    assert bytes(drafter.propose(1).token_ids) == b"x"
    draft = drafter.propose(9, Digits(), 5)
    assert bytes(draft.token_ids) == b"56789"
    assert {source_of(of_grade) for of_grade in draft.grades} == {DraftSource.GRAMMAR}
    assert bytes(drafter.propose(3, Digits(), 5).token_ids) == b"567"


def test_what_the_grammar_refuses_is_not_drafted() -> None:
    assert drafter_of("", "ax ax ax").propose(9, Digits(), 4).token_ids == []
    assert bytes(drafter_of("", "a4 a4 a4 a4 a").propose(9, Digits(), 4).token_ids) == b"456789"


# ---- acceptance ----


def test_each_class_is_judged_by_itself() -> None:
    acceptance = Acceptance()
    wrong, other = grade(DraftSource.TEXT, 0.55), grade(DraftSource.PHRASES, 0.55)
    for _ in range(20):
        acceptance.record(wrong, accepted=False)
    assert acceptance.chance(wrong) < 0.2
    assert acceptance.chance(other) == 0.55
    assert acceptance.chance(grade(DraftSource.GRAMMAR, 1.0)) > 0.98


@given(st.lists(st.booleans(), max_size=200), st.floats(0, 1))
def test_a_chance_is_a_probability(outcomes: list[bool], probability: float) -> None:
    acceptance, of_grade = Acceptance(), grade(DraftSource.TEXT, probability)
    for outcome in outcomes:
        acceptance.record(of_grade, accepted=outcome)
    assert 0 < acceptance.chance(of_grade) < 1
    assert source_of(of_grade) is DraftSource.TEXT


def test_a_token_after_a_refused_one_is_not_judged() -> None:
    drafter = drafter_of("", "abcdefgh abcdefgh ab")
    draft = drafter.propose(5)
    assert len(draft) == 5
    drafter.settle(draft, 5, 1, 0.5)
    judged = Acceptance()
    judged.record(draft.grades[0], accepted=True)
    judged.record(draft.grades[1], accepted=False)
    assert all(drafter.acceptance.chance(of) == judged.chance(of) for of in draft.grades)


# ---- a whole text, by what steps cost ----


def written(drafter: Drafter, text: Sequence[int], cost: StepCost, most_rows: int = 8) -> tuple[float, int]:
    """Return the time over that of plain decoding, and how many rows were drafted in the last half."""
    seconds, position, late_rows = 0.0, 0, 0
    while position < len(text):
        draft = drafter.propose(min(most_rows - 1, len(text) - position - 1))
        plan = plan_drafts([draft], [drafter.credit.tokens], cost, most_rows - 1)
        length = plan.lengths[0]
        decided = text[position : position + length + 1]
        right = common_prefix(draft.token_ids[:length], decided)
        drafter.settle(draft, length, right, plan.prices[0])
        for token_id in decided[: right + 1]:
            drafter.push(token_id)
        seconds += cost.seconds(1 + length)
        late_rows += length * (position > len(text) // 2)
        position += right + 1
    return seconds / (cost.seconds(1) * len(text)), late_rows


costs = st.lists(st.floats(1, 3), min_size=1, max_size=8).map(
    lambda times: StepCost(dict(enumerate([1.0, *sorted(times)], 1)))
)


@given(text=st.lists(st.sampled_from(b"ab"), min_size=100, max_size=160), learned=texts, cost=costs)
def test_no_text_takes_much_longer(text: list[int], learned: str, cost: StepCost) -> None:
    assert written(drafter_of("", "", table_of(learned)), text, cost)[0] <= 1 / 0.97


class Spiteful(Drafter):
    """A drafter that is sure of what never comes."""

    def propose(self, limit: int, rules: TokenRules | None = None, state: int = 0) -> Draft:
        assert (rules, state) == (None, 0)
        draft = drafter_of("", "abcabcabc").propose(limit)
        draft.token_ids[:] = [0] * len(draft)
        return draft


@given(length=st.integers(100, 300), cost=costs)
def test_nor_where_every_draft_is_wrong_and_sure(length: int, cost: StepCost) -> None:
    ratio, _ = written(Spiteful(b"", NUMBERS), [1] * length, cost)
    assert ratio <= 1 / 0.97


def test_what_repeats_is_written_faster_than_plainly() -> None:
    ratio, late_rows = written(drafter_of(""), EIGHT_ITEMS.encode(), COST)
    assert ratio < 0.5
    assert late_rows > 0


def test_it_learns_to_leave_off() -> None:
    """No context comes twice with the same successor: drafts that seem likely are always wrong."""
    text = [97 if (position * position) % 7 in (1, 2) else 98 + (position * 31) % 5 for position in range(400)]
    shuffled = [text[(position * 167) % 400] for position in range(400)]
    _, late_rows = written(drafter_of(""), shuffled, StepCost({1: 1.0, 2: 1.9, 8: 7.0}))
    assert late_rows < 20


def test_where_rows_cost_as_much_as_steps_nothing_is_drafted() -> None:
    ratio, _ = written(drafter_of(""), EIGHT_ITEMS.encode(), StepCost({1: 1.0, 8: 8.0}))
    assert ratio == 1.0
