"""Blocks for slots: none is given twice, and there is one for every position that was promised."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.runtime.block_table import BLOCK_POSITIONS, BlockTable, blocks_for


def test_slots_get_blocks_as_they_grow() -> None:
    table = BlockTable(2, 1024, 1024)
    assert (table.num_blocks, table.rows.shape) == (5, (2, 4))
    table.reserve(1, 1)
    table.reserve(1, BLOCK_POSITIONS)
    assert table.owned(1) == (0,)
    table.reserve(0, BLOCK_POSITIONS + 1)
    table.reserve(1, 2 * BLOCK_POSITIONS)
    assert (table.owned(0), table.owned(1)) == ((1, 2), (0, 3))
    assert table.rows.tolist() == [[1, 2, 0, 0], [0, 3, 0, 0]]


def test_released_blocks_are_given_again() -> None:
    table = BlockTable(2, 512, 512)
    assert table.num_blocks == 3
    table.reserve(0, 512)
    table.release(0)
    assert (table.owned(0), table.rows.tolist()) == ((), [[0, 0], [0, 0]])
    table.reserve(1, 512)
    table.reserve(0, 1)
    assert sorted((*table.owned(0), *table.owned(1))) == [0, 1, 2]


def test_too_few_blocks_are_an_error_and_nothing_is_taken() -> None:
    table = BlockTable(2, 1024, 512)
    table.reserve(0, 512)
    with pytest.raises(ValueError, match=r"1024 positions of slot 1 need 4 more blocks of 256, 1 of 3 are free"):
        table.reserve(1, 1024)
    assert table.owned(1) == ()
    table.reserve(1, 256)


def test_there_are_no_more_blocks_than_all_slots_can_use() -> None:
    assert BlockTable(3, 300, 10_000).num_blocks == 6


@given(
    total=st.integers(1, 20_000),
    shares=st.lists(st.integers(0, 1000), min_size=1, max_size=20).filter(any),
)
def test_whatever_was_promised_fits_however_it_is_shared(total: int, shares: list[int]) -> None:
    lengths = [total * share // sum(shares) for share in shares]
    table = BlockTable(len(shares), total, total)
    for _ in range(2):
        for slot, length in enumerate(lengths):
            table.reserve(slot, length)
        owned = [block for slot in range(len(shares)) for block in table.owned(slot)]
        assert len(owned) == len(set(owned)) == sum(map(blocks_for, lengths))
        assert all(0 <= block < table.num_blocks for block in owned)
        for slot in range(len(shares)):
            assert table.rows[slot, : len(table.owned(slot))].tolist() == list(table.owned(slot))
            table.release(slot)
