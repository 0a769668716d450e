"""What an export lost: measured on the bundle that was just written, before anybody can see it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.machine import usable_cores

from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.measure.accuracy_level import choose_accuracy_levels
from rubricrm_export.measure.evaluation import EvaluationJob, evaluate, evaluation_text
from rubricrm_export.measure.quality import Quality
from rubricrm_export.onnx_bundle.options import OnnxExport
from rubricrm_export.system.progress_bar import Progress


def measure_export(
    job: OnnxExport, checkpoint: Checkpoint, bundle: Bundle, reference: Path, on_progress: Progress
) -> tuple[Quality, bool]:
    """Measure a bundle against its checkpoint, and lower accuracy levels where they lose too much.

    Args:
        job: Its text and limits.
        checkpoint: What the bundle was made of.
        bundle: For the CPU.
        reference: The checkpoint, or a float bundle of it, which also writes rubrics.
        on_progress: Gets what is done.

    Returns:
        The figures, and whether the graph's file was changed.

    Raises:
        QualityTooLow: The job's limits are exceeded.
    """
    evaluation = EvaluationJob(
        bundle.path, reference, job.eval_text, max_kl=job.max_kl, min_top1=job.min_top1, device="cpu"
    )
    found = evaluate(evaluation, on_progress)
    changed = choose_accuracy_levels(
        bundle,
        checkpoint,
        evaluation_text(evaluation, bundle),
        found.quality.kl,
        threads=usable_cores(),
        on_progress=partial(on_progress, "Choosing accuracy levels"),
    )
    if changed:
        found = evaluate(evaluation, on_progress)
    if found.failure is not None:
        raise found.failure
    return found.quality, bool(changed)
