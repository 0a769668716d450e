"""The weights of a directory: rounded while they are read, or as calibration left them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from rubricrm.runtime.machine import usable_cores

from rubricrm_export.calibrate.calibrated_weights import CalibratedWeights
from rubricrm_export.calibrate.float_model import FloatModel
from rubricrm_export.calibrate.resume import ResumeDirectory
from rubricrm_export.checkpoint.architecture import LM_HEAD
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.graph.rounded_weights import RoundedWeights
from rubricrm_export.onnx_bundle.calibration_run import run_calibration
from rubricrm_export.quantize.grid import IntegerGrid
from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.rounding import read_rows, rounded_blocks
from rubricrm_export.system.progress_bar import Progress
from rubricrm_export.tensorrt.support import GROUP_SIZE
from rubricrm_export.tensorrt.tensorrt_plan import TensorRTPlan

Float = NDArray[np.float32]


@dataclass(frozen=True)
class ModelWeights:
    """What is known of a model's weights.

    Attributes:
        checkpoint: What stays as it is.
        source: Gives the matrices of the layers.
        largest_of_head: The largest |x| that meets the output head; None: not measured.
    """

    checkpoint: Checkpoint
    source: RoundedWeights
    largest_of_head: float | None

    def rounded(self, name: str) -> Iterator[QuantizedMatrix]:
        """Yield a matrix as consecutive blocks of rows. The head is rounded to nearest, in INT4."""
        if name == LM_HEAD:
            grid = IntegerGrid(4, GROUP_SIZE, True)
            return rounded_blocks(self.checkpoint.tensor(name), grid, usable_cores())
        return self.source.matrix(name).blocks()

    def largest_input(self, name: str) -> float | None:
        """Return the largest |x| that meets a matrix; None: it was not measured."""
        return self.largest_of_head if name == LM_HEAD else self.source.largest_input(name)

    def kv_scales(self) -> list[tuple[float, float]]:
        """Return the scales of keys and values of each layer."""
        assert isinstance(self.source, CalibratedWeights)
        return [(float(keys.max()), float(values.max())) for keys, values in self.source.kv_scales()]

    def norms(self) -> dict[str, Float]:
        """Return every norm, with the factors that calibration folded into it."""
        shapes = self.checkpoint.architecture.tensor_shapes(tied=True)
        return {name: self._norm(name) for name, shape in shapes.items() if len(shape) == 1}

    def _norm(self, name: str) -> Float:
        if isinstance(self.source, CalibratedWeights) and name.startswith("model.layers."):
            norm: Float = self.source.norm(name).numpy()
            return norm
        tensor = self.checkpoint.tensor(name)
        return read_rows(tensor, 0, tensor.shape[0])


@contextmanager
def open_weights(plan: TensorRTPlan, on_progress: Progress) -> Iterator[ModelWeights]:
    """Calibrate where that is needed; what it leaves is removed when the block ends well.

    Raises:
        RubricrmError: The text or a weight is not sound.
    """
    checkpoint, scheme, threads = plan.checkpoint, plan.bundle.scheme, usable_cores()
    if not plan.calibrates:
        yield ModelWeights(checkpoint, RoundedWeights(checkpoint, scheme, ir.DataType.FLOAT, threads), None)
        return
    resume = run_calibration(plan.job.calibrating(), plan.bundle, checkpoint, on_progress)
    source = CalibratedWeights(checkpoint, scheme, ir.DataType.FLOAT, threads, resume)
    largest = _largest_of_head(checkpoint, resume) if plan.choice.head == "fp8" else None
    yield ModelWeights(checkpoint, source, largest)
    resume.remove()


def _largest_of_head(checkpoint: Checkpoint, resume: ResumeDirectory) -> float:
    text, stream = resume.load_text(), resume.load_stream()
    assert text is not None
    assert stream is not None
    model = FloatModel(checkpoint, text, threads=usable_cores())
    return float(np.abs(model.final_norm(stream[1])).max())
