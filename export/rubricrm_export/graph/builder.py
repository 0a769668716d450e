"""Nodes and constants of a graph under construction, on top of onnx-ir's tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rubricrm_export.graph.node_names import projections_name

CONTRIB = "com.microsoft"
KERNELS = "rubricrm"  # this project's own operators

NUMPY_TYPES: dict[ir.DataType, Any] = {
    ir.DataType.FLOAT: np.float32,
    ir.DataType.FLOAT16: np.float16,
    ir.DataType.BFLOAT16: ml_dtypes.bfloat16,
}


NormSource = Callable[[str], ir.TensorProtocol | ir.Value]


class MatrixStorage(Protocol):
    """How matrices are stored, and which operators multiply by them. One class a form, in files beside this one."""

    def linear(self, b: GraphBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """Multiply x [..., in_features] by a weight [out_features, in_features] of the checkpoint, transposed."""
        ...

    def linears(
        self, b: GraphBuilder, x: ir.Value, weights: str, name: str, parts: Sequence[str]
    ) -> Sequence[ir.Value]:
        """Multiply one x by the weights `weights.PART_proj.weight`. A form may join them; here each has its product."""
        return [self.linear(b, x, f"{weights}.{part}_proj.weight", projections_name(name, [part])) for part in parts]

    def joined(self, b: GraphBuilder, x: ir.Value, weights: str, name: str, parts: Sequence[str]) -> ir.Value:
        """Multiply as `linears`; the outputs stand in a row on the last axis."""
        values = self.linears(b, x, weights, name, parts)
        return b.op("Concat", values, f"{projections_name(name, parts)}/Concat", axis=-1)

    def gated(self, b: GraphBuilder, x: ir.Value, weights: str, name: str) -> ir.Value:
        """Return silu(gate(x)) * up(x) for the weights `weights.gate_proj.weight` and `weights.up_proj.weight`."""
        gate = self.linear(b, x, f"{weights}.gate_proj.weight", projections_name(name, ["gate"]))
        up = self.linear(b, x, f"{weights}.up_proj.weight", projections_name(name, ["up"]))
        # ONNX Runtime fuses the two nodes of SiLU into one.
        silu = b.op("Mul", [gate, b.op("Sigmoid", [gate], f"{name}/Sigmoid")], f"{name}/silu")
        return b.op("Mul", [silu, up], f"{name}/Mul")


class TableStorage(MatrixStorage, Protocol):
    """A form in which rows can also be looked up: what the embedding, and a head that shares its bytes, need."""

    def embed(self, b: GraphBuilder, token_ids: ir.Value, weight: str, name: str) -> ir.Value:
        """Return the rows of a weight [vocab, hidden] at token_ids, in the type that the graph computes in."""
        ...


class GraphBuilder:
    """Adds nodes; each tensor and constant is added once.

    Attributes:
        computed: Element type of the activations.
    """

    def __init__(self, computed: ir.DataType) -> None:
        """Start an empty tape."""
        self.tape = ir.tape.Tape()
        self.computed = computed
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
        return self.constant(f"constant.int64.{'_'.join(map(str, values))}", np.array(values, np.int64))

    def scalar(self, value: int) -> ir.Value:
        """Return a constant int64 scalar."""
        return self.constant(f"constant.int64.scalar.{value}", np.array(value, np.int64))

    def table(self, name: str, array: NDArray[np.float32]) -> ir.Value:
        """Return a constant table in the type that the graph computes in."""
        return self.constant(name, array.astype(NUMPY_TYPES[self.computed]))

    def constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        """Return a constant of the array's own type; one of each name is made."""
        if name not in self._values:
            self._values[name] = self.tape.initializer(ir.tensor(array, name=name))
        return self._values[name]

    def parameter(self, tensor: ir.TensorProtocol) -> ir.Value:
        """Return a weight's tensor as a value; one of each name is made."""
        name = str(tensor.name)
        if name not in self._values:
            self._values[name] = self.tape.initializer(tensor)
        return self._values[name]


class LayerBuilder(GraphBuilder):
    """Adds nodes of layers; knows how their weights are stored.

    Attributes:
        projections: Storage of the layers' matrices.
    """

    def __init__(self, computed: ir.DataType, projections: MatrixStorage, norm: NormSource) -> None:
        """Start an empty tape; `norm` gives a norm's weight by its name in the checkpoint: a tensor, or an input."""
        super().__init__(computed)
        self.projections = projections
        self._norm = norm

    def norm_weight(self, name: str) -> ir.Value:
        """Return a norm's weight. It is stored as it is computed with: a few kilobytes that rounding would not pay."""
        if name in self._values:
            return self._values[name]
        weight = self._norm(name)
        return weight if isinstance(weight, ir.Value) else self.parameter(weight)


class DecoderBuilder(LayerBuilder):
    """Adds nodes of a decoder.

    Attributes:
        head: Storage of the embedding and of the output head.
    """

    def __init__(
        self,
        computed: ir.DataType,
        projections: MatrixStorage,
        head: TableStorage,
        norm: NormSource,
    ) -> None:
        """Start an empty tape; see `LayerBuilder`."""
        super().__init__(computed, projections, norm)
        self.head = head
