"""What a graph is told about the tokens of one run, besides keys and values: one class a way of appending to the cache.

`KV_UPDATES` of the manifest names the ways, docs/BUNDLE.md the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from rubricrm.runtime.block_table import BLOCK_POSITIONS, BlockTable, blocks_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    AnyIntegers = NDArray[np.int64 | np.int32]

METADATA = "attention_metadata"  # the one input of a paged graph that a device leaves in the host's memory
_LEAST_COLUMNS = 512 // BLOCK_POSITIONS


class Part(NamedTuple):
    """Tokens of one slot in a run.

    Attributes:
        slot: Which slot of the memory that is bound.
        token_ids: To append, as many as the slot has room for.
        length: Positions of the slot that hold a token already.
        rows: Rows of logits that are wanted, of the last tokens.
    """

    slot: int
    token_ids: Sequence[int]
    length: int
    rows: int


class StepInputs(Protocol):
    """Makes the inputs of runs on one memory.

    Attributes:
        batch: What stands before the tokens in the shapes of the graph's values.
        takes_any_mix: Whether a run may have tokens of several slots.
        least_rows: Fewest rows of logits that a run computes for a part.
    """

    batch: ClassVar[tuple[int, ...]]
    takes_any_mix: ClassVar[bool]
    least_rows: ClassVar[int]

    def of(self, parts: Sequence[Part]) -> Mapping[str, AnyIntegers]:
        """Return the inputs by name: views of memory that the next call overwrites."""
        ...

    def num_rows(self, parts: Sequence[Part]) -> int:
        """Return how many rows of logits the run computes; those that are wanted are the last of each part."""
        ...


class SharedInputs:
    """Of GroupQueryAttention: the kernel appends where the mask ends."""

    batch: ClassVar[tuple[int, ...]] = (1,)
    takes_any_mix: ClassVar[bool] = False
    least_rows: ClassVar[int] = 1

    def __init__(self, capacity: int, max_rows: int) -> None:
        import numpy as np

        self._token_ids: Integers = np.zeros((1, max_rows), np.int64)
        self._mask: Integers = np.ones((1, capacity), np.int64)
        self._num_logits: Integers = np.ones(1, np.int64)

    def of(self, parts: Sequence[Part]) -> Mapping[str, Integers]:
        """As `StepInputs`, of one part."""
        ((_, token_ids, length, rows),) = parts
        count = len(token_ids)
        self._token_ids[0, :count] = token_ids
        self._num_logits[0] = rows
        return {
            "input_ids": self._token_ids[:, :count],
            "attention_mask": self._mask[:, : length + count],
            "num_logits": self._num_logits,
        }

    def num_rows(self, parts: Sequence[Part]) -> int:
        """As `StepInputs`."""
        return parts[0].rows


class ScatterInputs:
    """Of TensorScatter: the graph is told where to write, and which rows of logits to compute."""

    batch: ClassVar[tuple[int, ...]] = (1,)
    takes_any_mix: ClassVar[bool] = False
    least_rows: ClassVar[int] = 1

    def __init__(self, capacity: int, max_rows: int) -> None:
        import numpy as np

        self._token_ids: Integers = np.zeros((1, max_rows), np.int64)
        self._positions: Integers = np.arange(max(capacity, max_rows), dtype=np.int64)[None]
        self._start: Integers = np.zeros(1, np.int64)

    def of(self, parts: Sequence[Part]) -> Mapping[str, Integers]:
        """As `StepInputs`, of one part."""
        ((_, token_ids, length, rows),) = parts
        count = len(token_ids)
        self._token_ids[0, :count] = token_ids
        self._start[0] = length
        return {
            "input_ids": self._token_ids[:, :count],
            "position_ids": self._positions[:, length : length + count],
            "write_indices": self._start,
            "logit_rows": self._positions[0, count - rows : count],
        }

    def num_rows(self, parts: Sequence[Part]) -> int:
        """As `StepInputs`."""
        return parts[0].rows


class ConcatenateInputs:
    """Of graphs that return past and new keys and values joined, and all rows of logits."""

    batch: ClassVar[tuple[int, ...]] = (1,)
    takes_any_mix: ClassVar[bool] = False
    least_rows: ClassVar[int] = 1

    def __init__(self, capacity: int, max_rows: int) -> None:
        import numpy as np

        self._token_ids: Integers = np.zeros((1, max_rows), np.int64)
        self._mask: Integers = np.ones((1, capacity), np.int64)
        self._positions: Integers = np.arange(capacity, dtype=np.int64)[None]

    def of(self, parts: Sequence[Part]) -> Mapping[str, Integers]:
        """As `StepInputs`, of one part."""
        ((_, token_ids, length, _),) = parts
        count = len(token_ids)
        self._token_ids[0, :count] = token_ids
        return {
            "input_ids": self._token_ids[:, :count],
            "attention_mask": self._mask[:, : length + count],
            "position_ids": self._positions[:, length : length + count],
        }

    def num_rows(self, parts: Sequence[Part]) -> int:
        """As `StepInputs`: such a graph computes them all."""
        return len(parts[0].token_ids)


class SlotsInputs:
    """Of this project's kernels: every token names its slot and position, so that any mix of slots is one run."""

    batch: ClassVar[tuple[int, ...]] = ()
    takes_any_mix: ClassVar[bool] = True
    least_rows: ClassVar[int] = 0

    def __init__(self, capacity: int, max_rows: int) -> None:  # noqa: ARG002 (as the others)
        import numpy as np

        self._token_ids, self._slots, self._positions, self._logit_rows = np.zeros((4, max_rows), np.int64)

    def of(self, parts: Sequence[Part]) -> Mapping[str, Integers]:
        """As `StepInputs`."""
        import numpy as np

        end = num_rows = 0
        for slot, token_ids, length, rows in parts:
            start, end = end, end + len(token_ids)
            self._token_ids[start:end] = token_ids
            self._slots[start:end] = slot
            self._positions[start:end] = np.arange(length, length + end - start)
            self._logit_rows[num_rows : num_rows + rows] = np.arange(end - rows, end)
            num_rows += rows
        return {
            "input_ids": self._token_ids[:end],
            "slots": self._slots[:end],
            "positions": self._positions[:end],
            "logit_rows": self._logit_rows[:num_rows],
        }

    def num_rows(self, parts: Sequence[Part]) -> int:
        """As `StepInputs`."""
        return sum(part.rows for part in parts)


class PagedInputs:
    """Of PagedAttention: parts of any slots stand in a row, and a table says where each one's blocks lie.

    Attributes:
        staging: The memory of all inputs but the metadata; it never moves.
    """

    batch: ClassVar[tuple[int, ...]] = ()
    takes_any_mix: ClassVar[bool] = True
    least_rows: ClassVar[int] = 1

    def __init__(self, table: BlockTable, max_rows: int) -> None:
        import numpy as np

        self._table = table
        slots, self._most_columns = table.rows.shape
        longs, integers = 2 * max_rows, 2 * slots + 1 + table.rows.size
        # One piece of memory, so that one copy brings all of it to a device.
        self.staging: NDArray[np.uint8] = np.zeros(8 * longs + 4 * integers, np.uint8)
        self._token_ids, self._logit_rows = self.staging[: 8 * longs].view(np.int64).reshape(2, max_rows)
        parts = np.split(self.staging[8 * longs :].view(np.int32), [slots + 1, 2 * slots + 1])
        self._ends, self._pasts, self._blocks = parts
        self._metadata: NDArray[np.int32] = np.zeros(3, np.int32)

    def of(self, parts: Sequence[Part]) -> Mapping[str, AnyIntegers]:
        """As `StepInputs`; slots get the blocks that they lack.

        Raises:
            ValueError: There are too few.
        """
        import numpy as np

        counts = [len(part.token_ids) for part in parts]
        lengths = [part.length + count for part, count in zip(parts, counts, strict=True)]
        end = num_rows = 0
        for (slot, token_ids, _, rows), length in zip(parts, lengths, strict=True):
            self._table.reserve(slot, length)
            start, end = end, end + len(token_ids)
            self._token_ids[start:end] = token_ids
            self._logit_rows[num_rows : num_rows + rows] = np.arange(end - rows, end)
            num_rows += rows
        count = len(parts)
        self._ends[1 : count + 1] = np.cumsum(counts)
        self._pasts[:count] = [part.length for part in parts]
        columns, self._metadata[:] = self._bounds(max(counts), max(lengths))
        blocks = self._blocks[: count * columns].reshape(count, columns)
        blocks[:] = self._table.rows[[part.slot for part in parts], :columns]
        return {
            "input_ids": self._token_ids[:end],
            "cumulative_sequence_length": self._ends[: count + 1],
            "past_seqlens": self._pasts[:count],
            "block_table": blocks,
            METADATA: self._metadata,
            "logit_rows": self._logit_rows[:num_rows],
        }

    def _bounds(self, tokens: int, positions: int) -> tuple[int, tuple[int, int, int]]:
        """Return how many blocks of a sequence to name, and what the kernel must know before it runs.

        Without the latter it would ask the device and wait, once for each layer: most new tokens of a sequence, most
        positions of one, and how many the longest has at least: from 513 on several groups of threads share one.

        Steps that only decode come in classes of lengths, up to twice one another's: what is captured of one serves
        all of its class.
        """
        columns = blocks_for(positions)
        if tokens > 1:
            return columns, (tokens, positions, positions)
        columns = max(_LEAST_COLUMNS, 1 << (columns - 1).bit_length())
        least = columns // 2 * BLOCK_POSITIONS + 1 if columns > _LEAST_COLUMNS else 1
        columns = min(columns, self._most_columns)
        return columns, (1, columns * BLOCK_POSITIONS, least)

    def num_rows(self, parts: Sequence[Part]) -> int:
        """As `StepInputs`."""
        return sum(part.rows for part in parts)


STEP_INPUTS: Mapping[str, type[SlotsInputs | PagedInputs | SharedInputs | ScatterInputs | ConcatenateInputs]] = {
    "slots": SlotsInputs,
    "paged": PagedInputs,
    "shared": SharedInputs,
    "scatter": ScatterInputs,
    "concatenate": ConcatenateInputs,
}
