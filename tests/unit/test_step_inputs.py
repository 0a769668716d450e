"""What a graph is told of the tokens of a run, in each way of appending to the cache."""

import numpy as np
import pytest
from rubricrm.runtime.manifest import KV_UPDATES
from rubricrm.runtime.step_inputs import (
    STEP_INPUTS,
    ConcatenateInputs,
    Part,
    ScatterInputs,
    SharedInputs,
    SlotsInputs,
)


def as_lists(inputs: object) -> dict[str, list[object]]:
    assert isinstance(inputs, dict)
    assert all(array.dtype == np.int64 for array in inputs.values())
    return {name: array.tolist() for name, array in inputs.items()}


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
    inputs = STEP_INPUTS[update](8, 4)
    inputs.of([Part(0, [1, 2, 3, 4], 0, 4)])
    fresh = STEP_INPUTS[update](8, 4)
    assert as_lists(inputs.of([Part(0, [9], 4, 1)])) == as_lists(fresh.of([Part(0, [9], 4, 1)]))


@pytest.mark.parametrize("update", KV_UPDATES)
def test_a_buffer_may_be_shorter_than_the_most_tokens_of_a_run(update: str) -> None:
    ids = as_lists(STEP_INPUTS[update](3, 4).of([Part(0, [1, 2, 3], 0, 3)]))["input_ids"]
    assert ids == ([1, 2, 3] if update == "slots" else [[1, 2, 3]])
