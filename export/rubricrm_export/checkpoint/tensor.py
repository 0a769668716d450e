"""One stored tensor of a checkpoint, read in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from rubricrm_export.errors import CheckpointInvalid

Array = np.ndarray[Any, Any]

# The types that are read. Importing ml_dtypes is also what lets safetensors hand out BF16 as a numpy type.
DTYPES: dict[str, np.dtype[Any]] = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}
_DEFAULT_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class CheckpointTensor:
    """A tensor in a safetensors file. Holds neither weights nor an open file.

    Attributes:
        name: The name to know it by; a tied head and embedding are one stored tensor under two names.
        dtype: "BF16", "F16" or "F32" in an opened checkpoint; any other type of safetensors before it was checked.
        file: Where it is stored.
        stored_name: Its name there.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    stored_name: str

    @property
    def nbytes(self) -> int:
        """Size of the whole tensor in its own type."""
        return self.shape[0] * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * DTYPES[self.dtype].itemsize

    def rows(self, start: int, stop: int) -> Array:
        """A copy of rows `start` to `stop`, in the checkpoint's own type (BF16 as `ml_dtypes.bfloat16`).

        Costs the memory of those rows, whatever the tensor's size, and about 0.1 ms beside the copying.

        Raises:
            IndexError: Not 0 <= start <= stop <= number of rows.
            CheckpointInvalid: The file is gone or was changed since the checkpoint was opened.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"{self.name}: rows {start} to {stop} of a tensor of {self.shape[0]} rows")
        if start == stop:  # safetensors refuses an empty slice at the end
            return np.empty((0, *self.shape[1:]), DTYPES[self.dtype])
        try:
            # Mapped anew each time: pages of a mapping that stays count as this process's memory once they are read,
            # and an export would appear to need the whole model (streaming 1.2 GB: 1,180 MB resident instead of 65).
            with safe_open(self.file, framework="np") as file:
                stored = file.get_slice(self.stored_name)
                is_same = (tuple(stored.get_shape()), stored.get_dtype()) == (self.shape, self.dtype)
                block: Array | None = stored[start:stop] if is_same else None
        except (SafetensorError, OSError) as error:
            raise CheckpointInvalid(f'{self.file}: tensor "{self.name}" cannot be read any more: {error}.') from error
        if block is None:
            raise CheckpointInvalid(f'{self.file}: tensor "{self.name}" was changed while it was in use. Run again.')
        return block

    def chunks(self, max_bytes: int = _DEFAULT_CHUNK_BYTES) -> Iterator[Array]:
        """The tensor as consecutive blocks of whole rows, for streaming.

        Args:
            max_bytes: Most bytes a block has; a single row may be more. A loop holds up to two blocks at a time: the
                one it works on and the next.
        """
        num_rows = max(1, max_bytes // max(1, self._row_bytes))
        for start in range(0, self.shape[0], num_rows):
            yield self.rows(start, min(start + num_rows, self.shape[0]))


def require_finite_weights(tensor: CheckpointTensor, block: Array, start: int) -> None:
    """Refuse rows of a tensor, from row `start` on, that hold what is no number.

    Raises:
        CheckpointInvalid: One of them is NaN or infinite.
    """
    if np.isfinite(block).all():
        return
    row, *rest = map(int, np.argwhere(~np.isfinite(block))[0])
    raise CheckpointInvalid(
        f'{tensor.file}: tensor "{tensor.name}" holds {float(block[row, *rest])} at {[start + row, *rest]}, expected '
        "finite weights. The checkpoint is damaged or its training diverged: export another one."
    )
