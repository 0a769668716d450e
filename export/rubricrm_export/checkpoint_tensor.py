"""One tensor of an open checkpoint, read in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from rubricrm.errors import CheckpointInvalid
from safetensors import SafetensorError

from rubricrm_export.checkpoint_files import WeightFile

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
    """One tensor of an open checkpoint. Holds no weights; valid until the checkpoint is closed.

    Attributes:
        name: The name asked for (a tied head and embedding are the same stored tensor).
        dtype: "BF16", "F16" or "F32".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    _file: WeightFile
    _stored_name: str

    @property
    def nbytes(self) -> int:
        """Size of the whole tensor in its own type."""
        return self.shape[0] * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * DTYPES[self.dtype].itemsize

    def rows(self, start: int, stop: int) -> Array:
        """A copy of rows `start` to `stop`, in the checkpoint's own type (BF16 as `ml_dtypes.bfloat16`).

        Costs the memory of those rows, whatever the tensor's size.

        Raises:
            IndexError: Not 0 <= start <= stop <= number of rows.
            CheckpointInvalid: The file could not be read (closed meanwhile).
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"{self.name}: rows {start} to {stop} of a tensor of {self.shape[0]} rows")
        if start == stop:  # safetensors refuses an empty slice at the end
            return np.empty((0, *self.shape[1:]), DTYPES[self.dtype])
        try:
            block: Array = self._file.get_slice(self._stored_name)[start:stop]
        except SafetensorError as error:
            raise CheckpointInvalid(f'tensor "{self.name}" could not be read: {error}.') from error
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
