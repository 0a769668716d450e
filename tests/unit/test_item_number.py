"""Numbers of items: one symbol for all of them, and counting."""

from itertools import pairwise

import pytest
from byte_tokenizer import NUMBERS
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.generation.item_number import NUMBER, ItemNumbers, Reading
from rubricrm.generation.next_token import symbols_of
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm.text_model import DEMO_BUNDLE


def read(text: str) -> Reading:
    reading = Reading(NUMBERS)
    for token_id in text.encode():
        reading.read(token_id)
    return reading


def listed(items: int) -> str:
    return "".join(f"{number}. a\n" for number in range(1, items + 1))


@pytest.mark.parametrize(
    ("text", "symbols", "item"),
    [
        ("1", [NUMBER], 0),
        ("1.", [NUMBER, "."], 1),
        ("1) a 2", [NUMBER, ")", " ", "a", " ", NUMBER], 1),
        ("1. 2 3", [NUMBER, ".", " ", NUMBER, " ", "3"], 1),  # 2 is no item without a mark
        ("1. 3.", [NUMBER, ".", " ", "3", "."], 1),
        ("17", [NUMBER, "7"], 0),  # begins as the next number and is another one
        ("2. a", ["2", ".", " ", "a"], 0),
        ("1. 1. 2.", [NUMBER, ".", " ", "1", ".", " ", NUMBER, "."], 2),
    ],
)
def test_the_next_items_number_is_one_symbol(text: str, symbols: list[int | str], item: int) -> None:
    reading = Reading(NUMBERS)
    read = [reading.read(token_id) for token_id in text.encode()]
    assert [symbol for symbol in read if symbol >= 0] == [ord(s) if isinstance(s, str) else s for s in symbols]
    assert reading.item == item


@given(st.lists(st.text("ab .", max_size=8), min_size=1, max_size=99))
def test_every_item_of_a_list_is_counted(items: list[str]) -> None:
    reading = read("".join(f"{number}.{text}\n" for number, text in enumerate(items, 1)))
    assert reading.item == len(items)
    assert symbols_of(reading.context)[-1] == ord("\n")


@given(st.text("12 9.a0)", max_size=30))
def test_a_context_is_the_last_three_symbols(text: str) -> None:
    reading = Reading(NUMBERS)
    symbols = [symbol for symbol in map(reading.read, text.encode()) if symbol >= 0]
    assert symbols_of(reading.context) == symbols[-3:]


@pytest.mark.parametrize(
    ("items", "text", "rest"),
    [(9, "\n1", "0"), (9, "\n2", ""), (9, "\n", ""), (9, "\n10", ""), (0, "1", ""), (10, " 1", "1"), (99, " 1", "")],
)
def test_the_rest_of_the_next_number(items: int, text: str, rest: str) -> None:
    assert bytes(read(listed(items) + text).rest()).decode() == rest


@pytest.mark.parametrize("items", [0, 1, 8, 9, 98])
def test_the_next_number(items: int) -> None:
    assert bytes(read(listed(items)).next_number()).decode() == str(items + 1)


def test_a_number_that_no_list_reaches_has_no_tokens() -> None:
    assert read(listed(99)).next_number() == ()
    assert NUMBERS.spelled(-1) == ()


def test_a_copy_goes_on_by_itself() -> None:
    reading = read("1. a\n2")
    other = reading.copy()
    other.read(ord("."))
    assert (reading.item, reading.digits, other.item, other.digits) == (1, "2", 2, "")


def test_an_answer_counts_for_itself() -> None:
    reading = read("1. a")
    context = reading.context
    reading.begin_list()
    assert (reading.item, reading.context) == (0, context)


def test_numbers_of_a_real_tokenizer() -> None:
    tokenizer = Tokenizer.from_file(DEMO_BUNDLE / "tokenizer.json")
    numbers = ItemNumbers(tokenizer)
    assert [tokenizer.decode(numbers.spelled(number)) for number in (0, 7, 10, 99)] == ["0", "7", "10", "99"]
    reading = Reading(numbers)
    reading.item = 8
    token_ids = tokenizer.encode("9. The response rhymes. [Principle]\n10. The")
    for before, after in pairwise(token_ids):
        reading.read(before)
        if reading.digits == "1":
            assert reading.rest() == (after,)
    assert reading.item == 10
