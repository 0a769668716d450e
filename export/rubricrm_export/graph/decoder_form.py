"""What differs between targets in a decoder's graph: inputs, norms, attention with its cache, the rows of logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.graph.builder import LayerBuilder


class DecoderForm(Protocol):
    """The operators of a target, for one graph. `inputs` is called first, then layers in order."""

    @property
    def opset_imports(self) -> Mapping[str, int]:
        """Domains and versions."""
        ...

    @property
    def token_axes(self) -> Sequence[str]:
        """Names of the axes of the token ids."""
        ...

    @property
    def row_axes(self) -> Sequence[str]:
        """Names of the axes of the logits before the vocabulary."""
        ...

    def inputs(self, b: LayerBuilder) -> Sequence[ir.Value]:
        """Make the graph's inputs besides the token ids."""
        ...

    def rms_norm(self, b: LayerBuilder, x: ir.Value, weight: str, name: str) -> ir.Value:
        """Normalize the last axis by its root mean square and scale it."""
        ...

    def add_and_norm(
        self, b: LayerBuilder, residual: ir.Value, update: ir.Value, weight: str, name: str
    ) -> tuple[ir.Value, ir.Value]:
        """Add a part's output to the residual stream and normalize the sum; return both, the sum last."""
        ...

    def attend(self, b: LayerBuilder, layer: int, hidden: ir.Value) -> tuple[ir.Value, Sequence[ir.Value]]:
        """Project, normalize the heads, rotate, append to the layer's cache, and attend.

        Args:
            b: The graph.
            layer: Its number.
            hidden: Normalized input, [batch, seq, hidden_size] or [tokens, hidden_size].

        Returns:
            What the output projection multiplies [..., heads * head_dim], and the present keys and values; none where
            the cache is written in place.
        """
        ...

    def wanted_rows(self, b: LayerBuilder, hidden: ir.Value) -> ir.Value:
        """Return the rows of [..., hidden_size] whose logits are wanted."""
        ...


def named_input(name: str, dtype: ir.DataType, shape: Sequence[str | int]) -> ir.Value:
    """Make an input of a graph."""
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def describe(value: ir.Value, name: str, dtype: ir.DataType, shape: Sequence[str | int]) -> ir.Value:
    """Give a value the name, type and shape of an output of the graph."""
    value.name, value.type, value.shape = name, ir.TensorType(dtype), ir.Shape(shape)
    return value


def cache_shape(architecture: Architecture, length: str | int) -> list[str | int]:
    """Return the shape of a layer's keys, or values."""
    return ["batch_size", architecture.num_kv_heads, length, architecture.head_dim]


def cache_pair(
    architecture: Architecture, dtype: ir.DataType, layer: int, length: str | int
) -> tuple[ir.Value, ir.Value]:
    """Make the inputs for a layer's past keys and values, [batch, kv_heads, length, head_dim]."""
    shape = cache_shape(architecture, length)
    key, value = (named_input(f"past_key_values.{layer}.{half}", dtype, shape) for half in ("key", "value"))
    return key, value
