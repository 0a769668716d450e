"""Matrices stored as floats, as they lie in the checkpoint or in another float type."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.graph.builder import CONTRIB, GraphBuilder, TableStorage
from rubricrm_export.graph.node_names import product_node
from rubricrm_export.graph.streamed_tensor import StreamedTensor


@dataclass(frozen=True)
class FloatStorage(TableStorage):
    """Float matrices.

    Where the stored type is not the computed one a Cast follows each weight: the CPU provider has no kernels for the
    16-bit types, and folds the Cast when it loads the graph (measured: the same memory and speed as float32 weights,
    half the bytes on disk).

    Attributes:
        checkpoint: Must stay as it is until the graph is written.
        stored: Element type of the weights in the file.
        is_standard: Whether products are written in standard ONNX: a runtime fuses the two nodes.
    """

    checkpoint: Checkpoint
    stored: ir.DataType
    is_standard: bool = False

    def linear(self, b: GraphBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """Multiply by a weight as it lies in the checkpoint.

        FusedMatMul reads it transposed: nothing is transposed at export, and a tied head shares the embedding.
        """
        matrix = self._cast(b, self._parameter(b, weight), weight)
        if self.is_standard:
            transposed = b.op("Transpose", [matrix], f"{name}/Transpose", perm=[1, 0])
            return b.op("MatMul", [x, transposed], product_node(name))
        return b.op("FusedMatMul", [x, matrix], product_node(name), domain=CONTRIB, transB=1)

    def embed(self, b: GraphBuilder, token_ids: ir.Value, weight: str, name: str) -> ir.Value:
        """Gather rows, then cast them: not the whole table."""
        rows = b.op("Gather", [self._parameter(b, weight), token_ids], f"{name}/Gather", axis=0)
        return self._cast(b, rows, name)

    def _parameter(self, b: GraphBuilder, weight: str) -> ir.Value:
        tensor = self.checkpoint.tensor(weight)
        return b.parameter(StreamedTensor(tensor, self.stored))

    def _cast(self, b: GraphBuilder, value: ir.Value, name: str) -> ir.Value:
        return value if self.stored == b.computed else b.op("Cast", [value], f"{name}/Cast", to=b.computed)
