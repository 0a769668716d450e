"""What a graph is told about the tokens of one run, besides keys and values: one class a way of appending to the cache.

`KV_UPDATES` of the manifest names the ways, docs/BUNDLE.md the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]


class StepInputs(Protocol):
    """Makes the inputs of runs on one cache."""

    def of(self, token_ids: Sequence[int], length: int, rows: int) -> Mapping[str, Integers]:
        """Return the inputs by name.

        Args:
            token_ids: To append, as many as the cache has room for.
            length: Positions that hold a token already.
            rows: Rows of logits that are wanted, from the end.

        Returns:
            Views of memory that the next call overwrites.
        """
        ...

    def num_rows(self, count: int, rows: int) -> int:
        """Return how many rows of logits a run of `count` tokens computes where `rows` are wanted."""
        ...


class SharedInputs:
    """Of GroupQueryAttention: the kernel appends where the mask ends."""

    def __init__(self, capacity: int, max_rows: int) -> None:
        import numpy as np

        self._token_ids: Integers = np.zeros((1, max_rows), np.int64)
        self._mask: Integers = np.ones((1, capacity), np.int64)
        self._num_logits: Integers = np.ones(1, np.int64)

    def of(self, token_ids: Sequence[int], length: int, rows: int) -> Mapping[str, Integers]:
        """As `StepInputs`."""
        count = len(token_ids)
        self._token_ids[0, :count] = token_ids
        self._num_logits[0] = rows
        return {
            "input_ids": self._token_ids[:, :count],
            "attention_mask": self._mask[:, : length + count],
            "num_logits": self._num_logits,
        }

    def num_rows(self, count: int, rows: int) -> int:  # noqa: ARG002
        """As `StepInputs`."""
        return rows


class ScatterInputs:
    """Of TensorScatter: the graph is told where to write, and which rows of logits to compute."""

    def __init__(self, capacity: int, max_rows: int) -> None:
        import numpy as np

        self._token_ids: Integers = np.zeros((1, max_rows), np.int64)
        self._positions: Integers = np.arange(max(capacity, max_rows), dtype=np.int64)[None]
        self._start: Integers = np.zeros(1, np.int64)

    def of(self, token_ids: Sequence[int], length: int, rows: int) -> Mapping[str, Integers]:
        """As `StepInputs`."""
        count = len(token_ids)
        self._token_ids[0, :count] = token_ids
        self._start[0] = length
        return {
            "input_ids": self._token_ids[:, :count],
            "position_ids": self._positions[:, length : length + count],
            "write_indices": self._start,
            "logit_rows": self._positions[0, count - rows : count],
        }

    def num_rows(self, count: int, rows: int) -> int:  # noqa: ARG002
        """As `StepInputs`."""
        return rows


class ConcatenateInputs:
    """Of graphs that return past and new keys and values joined, and all rows of logits."""

    def __init__(self, capacity: int, max_rows: int) -> None:
        import numpy as np

        self._token_ids: Integers = np.zeros((1, max_rows), np.int64)
        self._mask: Integers = np.ones((1, capacity), np.int64)
        self._positions: Integers = np.arange(capacity, dtype=np.int64)[None]

    def of(self, token_ids: Sequence[int], length: int, rows: int) -> Mapping[str, Integers]:  # noqa: ARG002
        """As `StepInputs`."""
        count = len(token_ids)
        self._token_ids[0, :count] = token_ids
        return {
            "input_ids": self._token_ids[:, :count],
            "attention_mask": self._mask[:, : length + count],
            "position_ids": self._positions[:, length : length + count],
        }

    def num_rows(self, count: int, rows: int) -> int:  # noqa: ARG002
        """As `StepInputs`."""
        return count


class SlotsInputs:
    """Of this project's kernels: every token names its slot and position. Here there is one slot."""

    def __init__(self, capacity: int, max_rows: int) -> None:
        import numpy as np

        self._token_ids: Integers = np.zeros(max_rows, np.int64)
        self._slots: Integers = np.zeros(max_rows, np.int64)
        self._places: Integers = np.arange(max(capacity, max_rows), dtype=np.int64)

    def of(self, token_ids: Sequence[int], length: int, rows: int) -> Mapping[str, Integers]:
        """As `StepInputs`."""
        count = len(token_ids)
        self._token_ids[:count] = token_ids
        return {
            "input_ids": self._token_ids[:count],
            "slots": self._slots[:count],
            "positions": self._places[length : length + count],
            "logit_rows": self._places[count - rows : count],
        }

    def num_rows(self, count: int, rows: int) -> int:  # noqa: ARG002
        """As `StepInputs`."""
        return rows


STEP_INPUTS: Mapping[str, type[SlotsInputs | SharedInputs | ScatterInputs | ConcatenateInputs]] = {
    "slots": SlotsInputs,
    "shared": SharedInputs,
    "scatter": ScatterInputs,
    "concatenate": ConcatenateInputs,
}
