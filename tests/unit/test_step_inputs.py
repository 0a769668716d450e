"""What a graph is told of the tokens of a run, in each way of appending to the cache."""

import numpy as np
import pytest
from rubricrm.runtime.manifest import KV_UPDATES
from rubricrm.runtime.step_inputs import STEP_INPUTS, ConcatenateInputs, ScatterInputs, SharedInputs, SlotsInputs


def as_lists(inputs: object) -> dict[str, list[object]]:
    assert isinstance(inputs, dict)
    assert all(array.dtype == np.int64 for array in inputs.values())
    return {name: array.tolist() for name, array in inputs.items()}


def test_there_is_a_class_for_each_way() -> None:
    assert tuple(STEP_INPUTS) == KV_UPDATES


def test_slots() -> None:
    inputs = SlotsInputs(capacity=8, max_rows=4)
    assert as_lists(inputs.of([7, 8, 9], length=5, rows=2)) == {
        "input_ids": [7, 8, 9],
        "slots": [0, 0, 0],
        "positions": [5, 6, 7],
        "logit_rows": [1, 2],
    }
    assert inputs.num_rows(3, 2) == 2


def test_shared() -> None:
    inputs = SharedInputs(capacity=8, max_rows=4)
    expected = {"input_ids": [[7, 8, 9]], "attention_mask": [[1, 1, 1, 1, 1]], "num_logits": [2]}
    assert as_lists(inputs.of([7, 8, 9], length=2, rows=2)) == expected
    assert inputs.num_rows(3, 2) == 2


def test_scatter() -> None:
    inputs = ScatterInputs(capacity=8, max_rows=4)
    assert as_lists(inputs.of([7, 8, 9], length=5, rows=2)) == {
        "input_ids": [[7, 8, 9]],
        "position_ids": [[5, 6, 7]],
        "write_indices": [5],
        "logit_rows": [1, 2],
    }
    assert inputs.num_rows(3, 2) == 2


def test_concatenate() -> None:
    inputs = ConcatenateInputs(capacity=8, max_rows=4)
    assert as_lists(inputs.of([7], length=2, rows=1)) == {
        "input_ids": [[7]],
        "attention_mask": [[1, 1, 1]],
        "position_ids": [[2]],
    }
    assert inputs.num_rows(3, 2) == 3  # such a graph computes them all


@pytest.mark.parametrize("update", KV_UPDATES)
def test_nothing_of_an_earlier_run_is_left(update: str) -> None:
    inputs = STEP_INPUTS[update](8, 4)
    inputs.of([1, 2, 3, 4], 0, 4)
    fresh = STEP_INPUTS[update](8, 4)
    assert as_lists(inputs.of([9], 4, 1)) == as_lists(fresh.of([9], 4, 1))


@pytest.mark.parametrize("update", KV_UPDATES)
def test_a_buffer_may_be_shorter_than_the_most_tokens_of_a_run(update: str) -> None:
    ids = as_lists(STEP_INPUTS[update](3, 4).of([1, 2, 3], 0, 3))["input_ids"]
    assert ids == ([1, 2, 3] if update == "slots" else [[1, 2, 3]])
