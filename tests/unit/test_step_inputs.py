"""What a graph is told of the tokens of a run, in each way of appending to the cache."""

import itertools

import numpy as np
import pytest
from rubricrm.runtime.array_address import address
from rubricrm.runtime.block_table import BlockTable
from rubricrm.runtime.manifest import KV_UPDATES
from rubricrm.runtime.step_inputs import (
    METADATA,
    STEP_INPUTS,
    ConcatenateInputs,
    PagedInputs,
    Part,
    ScatterInputs,
    SharedInputs,
    SlotsInputs,
    StepInputs,
)

NARROW = ("cumulative_sequence_length", "past_seqlens", "block_table", "attention_metadata")


def as_lists(inputs: object) -> dict[str, list[object]]:
    assert isinstance(inputs, dict)
    assert all(array.dtype == (np.int32 if name in NARROW else np.int64) for name, array in inputs.items())
    return {name: array.tolist() for name, array in inputs.items()}


def make(update: str, capacity: int, max_rows: int) -> StepInputs:
    if update == "paged":
        return PagedInputs(BlockTable(1, capacity, capacity), max_rows)
    kinds = {"slots": SlotsInputs, "shared": SharedInputs, "scatter": ScatterInputs, "concatenate": ConcatenateInputs}
    return kinds[update](capacity, max_rows)


def test_there_is_a_class_for_each_way() -> None:
    assert tuple(STEP_INPUTS) == KV_UPDATES


def test_slots() -> None:
    inputs = SlotsInputs(capacity=8, max_rows=4)
    assert as_lists(inputs.of([Part(0, [7, 8, 9], 5, 2)])) == {
        "input_ids": [7, 8, 9],
        "slots": [0, 0, 0],
        "positions": [5, 6, 7],
        "logit_rows": [1, 2],
    }
    assert inputs.num_rows([Part(0, [7, 8, 9], 5, 2)]) == 2


def test_slots_of_any_mix() -> None:
    parts = [Part(2, [7, 8, 9], 5, 1), Part(0, [4], 20, 1), Part(3, [1, 2], 0, 0)]
    inputs = SlotsInputs(capacity=8, max_rows=6)
    assert as_lists(inputs.of(parts)) == {
        "input_ids": [7, 8, 9, 4, 1, 2],
        "slots": [2, 2, 2, 0, 3, 3],
        "positions": [5, 6, 7, 20, 0, 1],
        "logit_rows": [2, 3],
    }
    assert inputs.num_rows(parts) == 2


def test_paged() -> None:
    table = BlockTable(4, 1024, 1024)
    table.reserve(0, 300)
    inputs = PagedInputs(table, 6)
    parts = [Part(2, [7, 8, 9], 255, 1), Part(0, [4], 300, 1), Part(3, [1, 2], 0, 2)]
    expected = {
        "input_ids": [7, 8, 9, 4, 1, 2],
        "cumulative_sequence_length": [0, 3, 4, 6],
        "past_seqlens": [255, 300, 0],
        "block_table": [[2, 3], [0, 1], [4, 0]],  # slot 2 begins its second block
        "attention_metadata": [3, 301, 301],
        "logit_rows": [2, 3, 4, 5],
    }
    assert as_lists(inputs.of(parts)) == expected
    assert inputs.num_rows(parts) == 4
    assert all(array.flags.c_contiguous for array in inputs.of(parts).values())


def test_what_a_paged_run_reads_stays_where_it_is() -> None:
    """A session binds addresses, holds no array, and copies all but the metadata to a device at once."""
    inputs = PagedInputs(BlockTable(3, 1024, 1024), 6)
    places = set()
    for parts in ([Part(0, [7, 8], 3, 1), Part(1, [4], 0, 1)], [Part(2, [9], 600, 1)]):
        found = dict(inputs.of(parts))
        places.add((address(found["input_ids"]), address(found["block_table"]), address(found[METADATA])))
        del found[METADATA]
        assert all(np.shares_memory(array, inputs.staging) for array in found.values())
        spans = sorted((address(array), address(array) + array.nbytes) for array in found.values())
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert len(places) == 1


@pytest.mark.parametrize(
    ("lengths", "columns", "bounds"),
    [
        ((0,), 2, [1, 512, 1]),
        ((3, 511, 40), 2, [1, 512, 1]),
        ((512, 0), 4, [1, 1024, 513]),
        ((1023,), 4, [1, 1024, 513]),
        ((1024, 1), 6, [1, 1536, 1025]),  # eight would be more than a slot has
        ((1535,), 6, [1, 1536, 1025]),
    ],
)
def test_steps_that_decode_come_in_classes_of_lengths(
    lengths: tuple[int, ...], columns: int, bounds: list[int]
) -> None:
    table = BlockTable(3, 1536, 4000)
    for slot, length in enumerate(lengths):
        table.reserve(slot, length)
    found = PagedInputs(table, 6).of([Part(slot, [7], length, 1) for slot, length in enumerate(lengths)])
    assert found["block_table"].tolist() == table.rows[: len(lengths), :columns].tolist()
    assert found[METADATA].tolist() == bounds


def test_shared() -> None:
    inputs = SharedInputs(capacity=8, max_rows=4)
    expected = {"input_ids": [[7, 8, 9]], "attention_mask": [[1, 1, 1, 1, 1]], "num_logits": [2]}
    assert as_lists(inputs.of([Part(0, [7, 8, 9], 2, 2)])) == expected
    assert inputs.num_rows([Part(0, [7, 8, 9], 5, 2)]) == 2


def test_scatter() -> None:
    inputs = ScatterInputs(capacity=8, max_rows=4)
    assert as_lists(inputs.of([Part(0, [7, 8, 9], 5, 2)])) == {
        "input_ids": [[7, 8, 9]],
        "position_ids": [[5, 6, 7]],
        "write_indices": [5],
        "logit_rows": [1, 2],
    }
    assert inputs.num_rows([Part(0, [7, 8, 9], 5, 2)]) == 2


def test_concatenate() -> None:
    inputs = ConcatenateInputs(capacity=8, max_rows=4)
    assert as_lists(inputs.of([Part(0, [7], 2, 1)])) == {
        "input_ids": [[7]],
        "attention_mask": [[1, 1, 1]],
        "position_ids": [[2]],
    }
    assert inputs.num_rows([Part(0, [7, 8, 9], 5, 2)]) == 3  # such a graph computes them all


@pytest.mark.parametrize("update", KV_UPDATES)
def test_nothing_of_an_earlier_run_is_left(update: str) -> None:
    inputs = make(update, 8, 4)
    inputs.of([Part(0, [1, 2, 3, 4], 0, 4)])
    fresh = make(update, 8, 4)
    assert as_lists(inputs.of([Part(0, [9], 4, 1)])) == as_lists(fresh.of([Part(0, [9], 4, 1)]))


@pytest.mark.parametrize("update", KV_UPDATES)
def test_a_buffer_may_be_shorter_than_the_most_tokens_of_a_run(update: str) -> None:
    ids = as_lists(make(update, 3, 4).of([Part(0, [1, 2, 3], 0, 3)]))["input_ids"]
    assert ids == ([1, 2, 3] if STEP_INPUTS[update].takes_any_mix else [[1, 2, 3]])
