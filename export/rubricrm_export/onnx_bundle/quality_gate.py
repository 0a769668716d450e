"""What an export lost: measured on the bundle that was just written, before anybody can see it."""

from __future__ import annotations

from functools import partial

from rubricrm.runtime.machine import usable_cores

from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.measure.accuracy_level import choose_accuracy_levels
from rubricrm_export.measure.evaluation import EvaluationJob, evaluate, evaluation_text
from rubricrm_export.measure.quality import Quality
from rubricrm_export.system.progress_bar import Progress


def measure_export(job: EvaluationJob, checkpoint: Checkpoint, on_progress: Progress) -> tuple[Quality, bool]:
    """Measure a bundle against its checkpoint, and lower accuracy levels where they lose too much.

    Args:
        job: The bundle, the checkpoint or a float bundle of it, which also writes rubrics, and what may be lost.
        checkpoint: What the bundle was made of.
        on_progress: Gets what is done.

    Returns:
        The figures, and whether the graph's file was changed.

    Raises:
        QualityTooLow: The job's limits are exceeded.
    """
    found = evaluate(job, on_progress)
    changed = choose_accuracy_levels(
        found.bundle,
        checkpoint,
        evaluation_text(job, found.bundle),
        found.quality.kl,
        threads=usable_cores(),
        on_progress=partial(on_progress, "Choosing accuracy levels"),
    )
    if changed:
        found = evaluate(job, on_progress)
    if found.failure is not None:
        raise found.failure
    return found.quality, bool(changed)
