"""Where the graph's weights come from: rounded as they are read, or as calibration left them."""

from __future__ import annotations

from typing import Protocol

import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import EMBEDDING, LM_HEAD
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.graph.quantized_tensor import MatrixTensors
from rubricrm_export.graph.streamed_tensor import StreamedTensor
from rubricrm_export.quantize.grid import FP8_MAX, Grid
from rubricrm_export.quantize.rounding import rounded_blocks
from rubricrm_export.quantize.scheme import Scheme


class MatrixSource(Protocol):
    """Gives quantized matrices by their names in the checkpoint, the same object each time."""

    def matrix(self, name: str) -> MatrixTensors:
        """Return a quantized matrix."""
        ...

    def input_scale(self, name: str) -> float:
        """Return the static scale of the activations that meet a matrix."""
        ...


class WeightSource(MatrixSource, Protocol):
    """Gives all weights of a graph that are not floats of the checkpoint."""

    def norm(self, name: str) -> ir.TensorProtocol:
        """Return a norm's weight."""
        ...


class RoundedWeights:
    """The checkpoint's own weights, rounded to nearest while they are written."""

    def __init__(self, checkpoint: Checkpoint, scheme: Scheme, computed: ir.DataType, threads: int) -> None:
        self._checkpoint = checkpoint
        self._scheme = scheme
        self._computed = computed
        self._threads = threads
        self._matrices: dict[str, MatrixTensors] = {}

    def matrix(self, name: str) -> MatrixTensors:
        """Return a matrix rounded by the grid of the layers, or of the head."""
        if name not in self._matrices:
            grid: Grid | None = self._scheme.head_grid if name in (EMBEDDING, LM_HEAD) else self._scheme.grid
            assert grid is not None
            tensor = self._checkpoint.tensor(name)
            self._matrices[name] = MatrixTensors(
                name, lambda: rounded_blocks(tensor, grid, self._threads), (tensor.shape[0], tensor.shape[1])
            )
        return self._matrices[name]

    def norm(self, name: str) -> ir.TensorProtocol:
        """Return the checkpoint's norm."""
        tensor = self._checkpoint.tensor(name)
        return StreamedTensor(tensor, self._computed)

    def largest_input(self, name: str) -> float | None:  # noqa: ARG002
        """Return the largest |x| that meets a matrix; None: no calibration measured it."""
        return None

    def input_scale(self, name: str) -> float:
        """Return the scale at which the largest input of a matrix, which was measured, is the largest code."""
        largest = self.largest_input(name)
        assert largest is not None
        return max(largest, 1e-6) / (FP8_MAX if self._scheme.activations == "fp8" else 127)
