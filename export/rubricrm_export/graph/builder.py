"""Nodes and weights of a graph under construction, on top of onnx-ir's tape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from rubricrm.errors import CheckpointUnsupported

from rubricrm_export.checkpoint import Checkpoint, CheckpointTensor

CONTRIB = "com.microsoft"

# A conversion holds a block in float32 and in both types at once.
_BLOCK_BYTES = 4 << 20

NUMPY_TYPES: dict[ir.DataType, Any] = {
    ir.DataType.FLOAT: np.float32,
    ir.DataType.FLOAT16: np.float16,
    ir.DataType.BFLOAT16: ml_dtypes.bfloat16,
}


class StreamedTensor(ir.LazyTensor):
    """A checkpoint's tensor in another element type, converted block by block while it is written.

    Memory: one block (`CheckpointTensor.chunks`), whatever the tensor's size.
    """

    def __init__(self, source: CheckpointTensor, dtype: ir.DataType) -> None:
        def blocks() -> Iterator[NDArray[Any]]:
            return (_convert(block, NUMPY_TYPES[dtype], source.name) for block in source.chunks(_BLOCK_BYTES))

        def whole() -> ir.TensorProtocol:
            return ir.tensor(np.concatenate(list(blocks())), name=source.name)

        super().__init__(whole, dtype, ir.Shape(source.shape), name=source.name)
        self._blocks = blocks

    def tofile(self, file: IO[bytes]) -> None:
        """Write the tensor's little-endian bytes."""
        for block in self._blocks():
            file.write(block.view(np.uint8).data)


def _convert(block: NDArray[Any], dtype: Any, name: str) -> NDArray[Any]:
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


@dataclass
class GraphBuilder:
    """Adds nodes; knows in which type weights are stored and in which the graph computes.

    Where the two differ a Cast follows each weight: the CPU provider has no kernels for the 16-bit types, and folds
    the Cast when it loads the graph (measured: the same memory and speed as float32 weights, half the bytes on disk).
    """

    checkpoint: Checkpoint
    stored: ir.DataType
    computed: ir.DataType

    def __post_init__(self) -> None:
        """Start an empty tape."""
        self.tape = ir.tape.Tape()
        self._values: dict[str, ir.Value] = {}

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> ir.Value:
        """Add a node with one output."""
        value = self.tape.op(op_type, inputs, attributes, domain=domain, name=name)
        value.name = f"{name}/output"
        return value

    def integers(self, *values: int) -> ir.Value:
        """Return a constant int64 vector; equal ones are shared."""
        return self._constant(np.array(values, np.int64), f"constant.int64.{'_'.join(map(str, values))}")

    def scalar(self, value: int) -> ir.Value:
        """Return a constant int64 scalar."""
        return self._constant(np.array(value, np.int64), f"constant.int64.scalar.{value}")

    def table(self, name: str, array: NDArray[np.float32]) -> ir.Value:
        """Return a constant table in the type that the graph computes in."""
        return self._constant(array.astype(NUMPY_TYPES[self.computed]), name)

    def stored_weight(self, name: str) -> ir.Value:
        """Return a weight of the checkpoint as it is stored, in the layout of Hugging Face."""
        return self._parameter(name, self.stored)

    def weight(self, name: str) -> ir.Value:
        """Return a weight in the type that the graph computes in."""
        key = f"{name}/Cast"
        if key not in self._values:
            self._values[key] = self.cast(self.stored_weight(name), name)
        return self._values[key]

    def norm_weight(self, name: str) -> ir.Value:
        """Return a norm's weight. It is stored as it is computed with: a few kilobytes that rounding would not pay."""
        return self._parameter(name, self.computed)

    def cast(self, value: ir.Value, name: str) -> ir.Value:
        """Cast from the stored to the computed type, where they differ."""
        return value if self.stored == self.computed else self.op("Cast", [value], f"{name}/Cast", to=self.computed)

    def linear(self, x: ir.Value, weight: str, name: str) -> ir.Value:
        """Multiply by a weight [out_features, in_features], as it lies in the checkpoint.

        FusedMatMul reads it transposed: nothing is transposed at export, and a tied head shares the embedding.
        """
        return self.op("FusedMatMul", [x, self.weight(weight)], f"{name}/MatMul", domain=CONTRIB, transB=1)

    def rms_norm(self, x: ir.Value, weight: str, epsilon: float, name: str) -> ir.Value:
        """Normalize the last axis by its root mean square and scale it."""
        return self.op("RMSNormalization", [x, self.norm_weight(weight)], f"{name}/RMSNorm", axis=-1, epsilon=epsilon)

    def _parameter(self, name: str, dtype: ir.DataType) -> ir.Value:
        if name not in self._values:
            self._values[name] = self.tape.initializer(StreamedTensor(self.checkpoint.tensor(name), dtype))
        return self._values[name]

    def _constant(self, array: NDArray[Any], name: str) -> ir.Value:
        if name not in self._values:
            self._values[name] = self.tape.initializer(ir.tensor(array, name=name))
        return self._values[name]
