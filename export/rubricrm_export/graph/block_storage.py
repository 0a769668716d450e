"""Matrices of 4 or 8 bits with one scale per block of inputs: MatMulNBits and GatherBlockQuantized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from rubricrm_export.graph.builder import CONTRIB, NUMPY_TYPES, GraphBuilder, TableStorage
from rubricrm_export.graph.node_names import product_node, projections_name
from rubricrm_export.graph.quantized_tensor import MatrixTensors, ViewTensor

# MatMulNBits' accuracy_level: activations are rounded to 8 bits per block inside the kernel, or stay float32.
INT8_ACTIVATIONS, EXACT_INPUTS = 4, 1


@dataclass(frozen=True)
class BlockStorage(TableStorage):
    """Integer matrices in blocks.

    Where a block does not divide the inputs the last one of a row is filled up. The embedding and a tied head are the
    same bytes of the data file, under two shapes.

    Attributes:
        matrix: Gives the tensors of a weight by its name; the same object each time.
        bits: 4 or 8.
        block_size: 16 or more, a power of two.
        symmetric: No zero points are stored.
        accuracy_level: Of every product; `accuracy_level.py` lowers it where that pays.
    """

    matrix: Callable[[str], MatrixTensors]
    bits: int
    block_size: int
    symmetric: bool
    accuracy_level: int = INT8_ACTIVATIONS

    def linear(self, b: GraphBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """Multiply by a weight in blocks."""
        return self._product(b, x, self.matrix(weight), name)

    def linears(
        self, b: GraphBuilder, x: ir.Value, weights: str, name: str, parts: Sequence[str]
    ) -> Sequence[ir.Value]:
        """Multiply as `joined`, then split."""
        sizes = [self.matrix(f"{weights}.{part}_proj.weight").shape[0] for part in parts]
        values = b.tape.op_multi_out(
            "Split",
            [self.joined(b, x, weights, name, parts), b.integers(*sizes)],
            {"axis": -1},
            num_outputs=len(parts),
            name=f"{projections_name(name, parts)}/Split",
        )
        for value, part in zip(values, parts, strict=True):
            value.name = f"{projections_name(name, [part])}/output"
        return values

    def joined(self, b: GraphBuilder, x: ir.Value, weights: str, name: str, parts: Sequence[str]) -> ir.Value:
        """Multiply by several weights at once: x is rounded once, and threads meet once."""
        tensors = [self.matrix(f"{weights}.{part}_proj.weight") for part in parts]
        matrix = MatrixTensors.joined(f"{weights}.{''.join(parts)}_proj.weight", tensors)
        return self._product(b, x, matrix, projections_name(name, parts))

    def _product(self, b: GraphBuilder, x: ir.Value, tensors: MatrixTensors, name: str) -> ir.Value:
        rows, width = tensors.shape
        return b.op(
            "MatMulNBits",
            [x, self._codes(b, tensors), *self._parameters(b, tensors)],
            product_node(name),
            domain=CONTRIB,
            K=width,
            N=rows,
            bits=self.bits,
            block_size=self.block_size,
            accuracy_level=self.accuracy_level,
        )

    def embed(self, b: GraphBuilder, token_ids: ir.Value, weight: str, name: str) -> ir.Value:
        """Dequantize the rows of a table."""
        tensors = self.matrix(weight)
        rows, width = tensors.shape
        codes = self._codes(b, tensors)
        # The operator wants the same bytes without the axis of blocks.
        table = b.parameter(
            ViewTensor(codes.const_value, [rows, self._padded(width) * self.bits // 8], f"{weight}.rows")
        )
        scales, *zero_points = self._parameters(b, tensors)
        embedded = b.op(
            "GatherBlockQuantized",
            [table, token_ids, scales, *zero_points],
            f"{name}/Gather",
            domain=CONTRIB,
            bits=self.bits,
            block_size=self.block_size,
            gather_axis=0,
            quantize_axis=1,
        )
        if self._padded(width) == width:
            return embedded
        return b.op("Slice", [embedded, b.integers(0), b.integers(width), b.integers(-1)], f"{name}/Slice")

    def _padded(self, width: int) -> int:
        return -(-width // self.block_size) * self.block_size

    def _codes(self, b: GraphBuilder, tensors: MatrixTensors) -> ir.Value:
        rows, width = tensors.shape
        shape = [rows, self._padded(width) // self.block_size, self.block_size * self.bits // 8]
        return b.parameter(tensors.codes(lambda matrix: matrix.blobs(), ir.DataType.UINT8, shape))

    def _parameters(self, b: GraphBuilder, tensors: MatrixTensors) -> list[ir.Value]:
        rows, width = tensors.shape
        blocks = self._padded(width) // self.block_size
        parameters = [b.parameter(tensors.scales(NUMPY_TYPES[b.computed], [rows, blocks]))]
        if not self.symmetric:
            parameters.append(b.parameter(tensors.zero_points([rows, -(-blocks * self.bits // 8)])))
        return parameters
