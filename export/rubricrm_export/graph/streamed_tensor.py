"""A checkpoint's tensor in another element type, converted block by block while it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rubricrm_export.checkpoint.tensor import CheckpointTensor, is_finite
from rubricrm_export.errors import CheckpointUnsupported
from rubricrm_export.graph.builder import NUMPY_TYPES

# A conversion holds a block in float32 and in both types at once.
_BLOCK_BYTES = 4 << 20


class StreamedTensor(ir.LazyTensor):
    """A tensor whose bytes are made while the data file is written.

    Memory: one block (`CheckpointTensor.chunks`), whatever the tensor's size.

    Attributes:
        parts: Yields it as consecutive blocks of rows, from the start at each call. Raises CheckpointInvalid for a
            weight that is not finite, and CheckpointUnsupported for one that the element type cannot hold.
    """

    def __init__(self, source: CheckpointTensor, dtype: ir.DataType) -> None:
        """Read nothing yet."""

        def blocks() -> Iterator[NDArray[Any]]:
            for block in source.chunks(_BLOCK_BYTES):
                yield convert_floats(block, NUMPY_TYPES[dtype], source.name)

        def whole() -> ir.TensorProtocol:
            return ir.tensor(np.concatenate(list(blocks())), name=source.name)

        super().__init__(whole, dtype, ir.Shape(source.shape), name=source.name)
        self.parts = blocks

    def tofile(self, file: IO[bytes]) -> None:
        """Write the tensor's little-endian bytes."""
        for block in self.parts():
            file.write(block.view(np.uint8).data)


def convert_floats(block: NDArray[Any], dtype: Any, name: str) -> NDArray[Any]:
    """Return finite floats in another type.

    Raises:
        CheckpointUnsupported: One of them is beyond the largest number of that type.
    """
    if block.dtype == dtype:
        return np.ascontiguousarray(block)
    with np.errstate(over="ignore"):
        # Through float32: ml_dtypes has no direct cast between the two 16-bit types.
        exact = block.astype(np.float32)
        converted = np.ascontiguousarray(exact.astype(dtype, copy=False))
    if not is_finite(converted):
        largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
        wider = "bf16 or fp32" if dtype == np.float16 else "fp32"
        raise CheckpointUnsupported(
            f"{name}: holds {exact.flat[np.abs(exact).argmax()]:.6g}, beyond {largest:.6g}, the largest "
            f"{np.dtype(dtype).name} number. Export with --weights {wider}."
        )
    return converted
