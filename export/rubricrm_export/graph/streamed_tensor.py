"""A checkpoint's tensor in another element type, converted block by block while it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rubricrm_export.checkpoint.tensor import CheckpointTensor, require_finite_weights
from rubricrm_export.errors import CheckpointUnsupported
from rubricrm_export.graph.builder import NUMPY_TYPES

# A conversion holds a block in float32 and in both types at once.
_BLOCK_BYTES = 4 << 20


class StreamedTensor(ir.LazyTensor):
    """A tensor whose bytes are made while the data file is written.

    Memory: one block (`CheckpointTensor.chunks`), whatever the tensor's size.

    Attributes:
        parts: Yields it as consecutive blocks of rows, anew at each call.
    """

    def __init__(self, source: CheckpointTensor, dtype: ir.DataType, *, must_be_finite: bool = False) -> None:
        """Read nothing yet; with `must_be_finite` writing a number that is not raises CheckpointInvalid."""

        def blocks() -> Iterator[NDArray[Any]]:
            start = 0
            for block in source.chunks(_BLOCK_BYTES):
                if must_be_finite:
                    require_finite_weights(source, block, start)
                start += len(block)
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
    """Return floats in another type.

    Raises:
        CheckpointUnsupported: One of them is beyond what FP16 holds.
    """
    if block.dtype == dtype:
        return np.ascontiguousarray(block)
    with np.errstate(over="ignore"):
        # Through float32: ml_dtypes has no direct cast between the two 16-bit types.
        exact = block.astype(np.float32)
        converted = np.ascontiguousarray(exact.astype(dtype, copy=False))
    if dtype == np.float16:
        lost = exact[np.isinf(converted) & np.isfinite(exact)]
        if lost.size:
            raise CheckpointUnsupported(
                f"{name}: holds {lost[np.abs(lost).argmax()]:.6g}, beyond 65504, the largest FP16 number. "
                "Export with --weights bf16 or fp32."
            )
    return converted
