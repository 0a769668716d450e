"""The weights of a directory: rounded while they are read, or as calibration left them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.machine import usable_cores

from rubricrm_export.calibrate.calibrated_weights import CalibratedWeights
from rubricrm_export.calibrate.float_model import FloatModel
from rubricrm_export.calibrate.resume import ResumeDirectory
from rubricrm_export.checkpoint.architecture import LM_HEAD
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.graph.rounded_weights import RoundedWeights
from rubricrm_export.onnx_bundle.calibration_run import run_calibration
from rubricrm_export.onnx_bundle.memory import check_memory
from rubricrm_export.onnx_bundle.plan import ExportPlan
from rubricrm_export.quantize.grid import IntegerGrid
from rubricrm_export.quantize.matrix import QuantizedMatrix
from rubricrm_export.quantize.rounding import read_rows, rounded_blocks
from rubricrm_export.system.progress_bar import Progress
from rubricrm_export.tensorrt.job import NO_CALIBRATION, TensorRTExport
from rubricrm_export.tensorrt.support import GROUP_SIZE, Choice

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
def open_weights(
    job: TensorRTExport, choice: Choice, plan: ExportPlan, checkpoint: Checkpoint, on_progress: Progress
) -> Iterator[ModelWeights]:
    """Calibrate where that is needed; what it leaves is removed when the block ends well.

    Raises:
        RubricrmError: A text, an option or the checkpoint is not sound, or memory does not suffice.
    """
    scheme, threads = plan.scheme, usable_cores()
    needs_calibration = scheme.needs_calibration or scheme.activations != "none"
    if not needs_calibration or job.calibration == NO_CALIBRATION:
        if job.resume:
            raise OptionInvalid("--resume continues a calibration, and this export has none. Leave it out.")
        yield ModelWeights(checkpoint, RoundedWeights(checkpoint, scheme, ir.DataType.FLOAT, threads), None)
        return
    check_memory(plan, checkpoint.architecture, is_measured=False)
    resume = run_calibration(job.calibrating(), plan, checkpoint, on_progress)
    source = CalibratedWeights(checkpoint, scheme, ir.DataType.FLOAT, threads, resume)
    yield ModelWeights(checkpoint, source, _largest_of_head(checkpoint, resume) if choice.head == "fp8" else None)
    resume.remove()


def _largest_of_head(checkpoint: Checkpoint, resume: ResumeDirectory) -> float:
    text, stream = resume.load_text(), resume.load_stream()
    assert text is not None
    assert stream is not None
    model = FloatModel(checkpoint, text, threads=usable_cores())
    return float(np.abs(model.final_norm(stream[1])).max())
