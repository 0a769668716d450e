"""Matrices in blocks as this project's kernels read them (docs/BUNDLE.md, Layouts)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

import onnx_ir as ir

from rubricrm_export.graph.block_storage import BlockStorage
from rubricrm_export.graph.builder import KERNELS, GraphBuilder
from rubricrm_export.graph.node_names import product_node, projections_name
from rubricrm_export.graph.quantized_tensor import MatrixTensors

_TILE = 64  # outputs


class DerivedTensor(ir.LazyTensor):
    """A tensor whose bytes the SDK derives from the standard layout's, when its data file is written."""

    def __init__(self, dtype: ir.DataType, shape: list[int], name: str) -> None:
        """Name a tensor."""

        def read() -> NoReturn:
            raise AssertionError(f"{name} has no bytes before its data file is derived")

        super().__init__(read, dtype, ir.Shape(shape), name=name)


@dataclass(frozen=True)
class PackedStorage(BlockStorage):
    """Integer matrices in tiles of 64 outputs.

    Attributes:
        exact: Nodes of products whose inputs are not rounded to 8 bits.
    """

    exact: Collection[str] = ()

    @classmethod
    def of(cls, storage: BlockStorage, exact: Collection[str]) -> PackedStorage:
        """Return a storage's matrices, packed."""
        return cls(storage.matrix, storage.bits, storage.block_size, storage.symmetric, exact=exact)

    def gated(self, b: GraphBuilder, x: ir.Value, weights: str, name: str) -> ir.Value:
        """Multiply by both matrices at once, and gate."""
        gate, up = (self.matrix(f"{weights}.{part}_proj.weight") for part in ("gate", "up"))
        nodes = [product_node(projections_name(name, [part])) for part in ("gate", "up")]
        (gates, gate_scales, *gate_zeros), (ups, up_scales, *up_zeros) = (self._packed(b, part) for part in (gate, up))
        inputs = [x, gates, gate_scales, ups, up_scales, *gate_zeros, *up_zeros]
        return self._multiply(
            b, "GatedMatMul", inputs, gate, product_node(projections_name(name, ["gate", "up"])), nodes
        )

    def embed(self, b: GraphBuilder, token_ids: ir.Value, weight: str, name: str) -> ir.Value:
        """Dequantize the rows of a table; a tied head is the same tensor."""
        tensors = self.matrix(weight)
        rows, width = tensors.shape
        return b.op(
            f"GatherInt{self.bits}",
            [token_ids, *self._packed(b, tensors)],
            f"{name}/Gather",
            domain=KERNELS,
            N=rows,
            K=width,
            block_size=self.block_size,
        )

    def _product(self, b: GraphBuilder, x: ir.Value, tensors: MatrixTensors, name: str) -> ir.Value:
        node = product_node(name)
        return self._multiply(b, "MatMul", [x, *self._packed(b, tensors)], tensors, node, [node])

    def _multiply(
        self,
        b: GraphBuilder,
        operator: str,
        inputs: list[ir.Value],
        tensors: MatrixTensors,
        node: str,
        products: list[str],
    ) -> ir.Value:
        rows, width = tensors.shape
        return b.op(
            f"{operator}Int{self.bits}",
            inputs,
            node,
            domain=KERNELS,
            N=rows,
            K=width,
            block_size=self.block_size,
            exact_inputs=int(any(product in self.exact for product in products)),
        )

    def _packed(self, b: GraphBuilder, tensors: MatrixTensors) -> list[ir.Value]:
        rows, width = tensors.shape
        tiles, padded = -(-rows // _TILE), self._padded(width)
        parameters = [tiles, padded // self.block_size, _TILE]
        made = [
            DerivedTensor(ir.DataType.UINT8, [tiles, padded * self.bits // 32, _TILE, 4], f"{tensors.name}.packed"),
            DerivedTensor(ir.DataType.FLOAT16, parameters, f"{tensors.name}.packed_scales"),
        ]
        if not self.symmetric:
            made.append(DerivedTensor(ir.DataType.UINT8, parameters, f"{tensors.name}.packed_zero_points"))
        return [b.parameter(tensor) for tensor in made]
