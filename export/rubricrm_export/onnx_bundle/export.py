"""A checkpoint becomes an ONNX bundle: the work behind `rubricrm export onnx`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import onnx_ir as ir
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.bundle import Bundle, describe_file
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.manifest import RUBRIC, Manifest
from rubricrm.runtime.published_directory import (
    check_output,
    check_space,
    scratch_directory,
    whole_directory,
    write_manifest,
)

from rubricrm_export.calibrate.calibrated_weights import CalibratedWeights
from rubricrm_export.checkpoint.checkpoint import Checkpoint, checkpoint_digests
from rubricrm_export.checkpoint.hub import resolve_checkpoint
from rubricrm_export.graph.kv_storage import KVScales
from rubricrm_export.graph.rounded_weights import RoundedWeights, WeightSource
from rubricrm_export.graph.writer import GRAPH_FILE, computed_type, kv_storage, step_kv_storage, step_update
from rubricrm_export.measure.evaluation import EvaluationJob
from rubricrm_export.measure.operator_check import check_operators
from rubricrm_export.measure.verdict import limits_of, verdict
from rubricrm_export.onnx_bundle.bundle_files import add_prefix, add_step_graph, copy_of, write_bundle_files
from rubricrm_export.onnx_bundle.calibration_run import run_calibration
from rubricrm_export.onnx_bundle.memory import check_memory
from rubricrm_export.onnx_bundle.options import OnnxExport
from rubricrm_export.onnx_bundle.plan import ExportPlan, chat_template_of, make_plan, make_twin
from rubricrm_export.onnx_bundle.quality_gate import measure_export
from rubricrm_export.system.progress_bar import Progress, no_progress

__all__ = ["OnnxExport", "Progress", "export_onnx", "plan_onnx", "verdict_on"]


def plan_onnx(job: OnnxExport) -> ExportPlan:
    """Check everything that can be checked without writing: the whole of `--dry-run`.

    Raises:
        RubricrmError: As `export_onnx`.
    """
    check_output(job.output, force=job.force)
    resolved = resolve_checkpoint(job.source, job.revision)
    job = replace(job, chat_template=chat_template_of(job, resolved.path))
    with Checkpoint.open(resolved.path, job.most_positions) as checkpoint:
        return make_plan(job, resolved, checkpoint)


def export_onnx(job: OnnxExport, on_progress: Progress | None = None) -> Bundle:
    """Write a bundle.

    Memory: without calibration one block of one tensor, whatever the model's size; with it one layer as floats and the
    activations of the text. Time: reading, writing and hashing the weights; calibration is told in its modules.

    Args:
        job: What to export.
        on_progress: Gets what is being done, how much of it is done, and how much there is.

    Raises:
        RubricrmError: The checkpoint, an option or the target is not sound; nothing was left at the target.
    """
    report = on_progress or no_progress
    check_output(job.output, force=job.force)
    resolved = resolve_checkpoint(job.source, job.revision)
    job = replace(job, chat_template=chat_template_of(job, resolved.path))
    with Checkpoint.open(resolved.path, job.most_positions) as checkpoint:
        plan = make_plan(job, resolved, checkpoint)
        check_space(job.output, plan.weight_bytes)
        check_memory(plan, checkpoint.architecture)
        check_operators(plan.scheme if plan.scheme.runs_on_cpu else make_twin(plan).scheme)
        if plan.scheme.needs_calibration:
            _export_calibrated(job, plan, checkpoint, report)
        else:
            if job.resume:
                raise OptionInvalid("--resume continues a calibration, and this export has none. Leave it out.")
            _export_rounded(job, plan, checkpoint, report)
    return Bundle.open(job.output)


def verdict_on(job: OnnxExport, quality: Mapping[str, float]) -> str:
    """Return in words what an export lost, beside what others lose by its recipe."""
    return verdict(job.scheme("bf16"), quality)  # the type of what stays floats is in no recipe


def _export_rounded(job: OnnxExport, plan: ExportPlan, checkpoint: Checkpoint, on_progress: Progress) -> None:
    """Write a bundle of the checkpoint's weights, as they are or rounded to nearest."""

    def source(computed: ir.DataType) -> WeightSource:
        return RoundedWeights(checkpoint, plan.scheme, computed, usable_cores())

    _write_bundle(job, plan, checkpoint, source, None, on_progress)


def _export_calibrated(job: OnnxExport, plan: ExportPlan, checkpoint: Checkpoint, on_progress: Progress) -> None:
    """Calibrate layer by layer, then write the bundle. What is done survives an interruption in BUNDLE.resume."""
    scheme, threads = plan.scheme, usable_cores()
    resume = run_calibration(job, plan, checkpoint, on_progress)

    def source(computed: ir.DataType) -> CalibratedWeights:
        return CalibratedWeights(checkpoint, scheme, computed, threads, resume)

    kv_scales = source(ir.DataType.FLOAT).kv_scales() if scheme.has_kv_scales else None
    _write_bundle(job, plan, checkpoint, source, kv_scales, on_progress)
    resume.remove()


def _write_bundle(
    job: OnnxExport,
    plan: ExportPlan,
    checkpoint: Checkpoint,
    source: Callable[[ir.DataType], WeightSource],
    kv_scales: KVScales | None,
    on_progress: Progress,
) -> None:
    """Write the bundle, measure it, and only then give it its name."""
    computed = computed_type(plan.scheme)
    with whole_directory(job.output, force=job.force) as directory:
        kv = kv_storage(plan.scheme, kv_scales)
        report = partial(on_progress, "Writing weights")
        bundle = write_bundle_files(plan, checkpoint, source(computed), kv, job.chat_template, directory, report)
        manifest = _with_source(bundle.manifest, checkpoint)
        if plan.scheme.is_quantized and plan.scheme.runs_on_cpu:
            manifest = _with_quality(job, plan, checkpoint, bundle, manifest, on_progress)
        elif plan.scheme.is_quantized:
            twin = make_twin(plan)
            with scratch_directory(job.output, "twin") as twin_directory:
                twin_directory.mkdir()
                kv = kv_storage(twin.scheme, kv_scales)
                weights = source(ir.DataType.FLOAT)
                report = partial(on_progress, "Making a twin for the CPU")
                measured = write_bundle_files(twin, checkpoint, weights, kv, job.chat_template, twin_directory, report)
                quality = _with_quality(job, plan, checkpoint, measured, measured.manifest, on_progress).quality
            manifest = replace(manifest, quality=quality)
        bundle = write_manifest(directory, manifest)
        if step_update(plan.scheme) is not None:
            report = partial(on_progress, "Packing weights")
            kv = step_kv_storage(plan.scheme, kv_scales)
            bundle = add_step_graph(bundle, plan, checkpoint, source(computed), kv, report)
        add_prefix(bundle, plan)


def _with_source(manifest: Manifest, checkpoint: Checkpoint) -> Manifest:
    """Add the hashes of the checkpoint's files."""
    source = replace(manifest.provenance.source, files=checkpoint_digests(checkpoint.path, checkpoint.files))
    return replace(manifest, provenance=replace(manifest.provenance, source=source))


def _with_quality(
    job: OnnxExport,
    plan: ExportPlan,
    checkpoint: Checkpoint,
    bundle: Bundle,
    manifest: Manifest,
    on_progress: Progress,
) -> Manifest:
    """Measure a bundle for the CPU against the checkpoint; a small one also writes rubrics, beside its float model."""
    limits = limits_of(plan.scheme, job.max_kl, job.min_top1, f"{job.output}.resume")
    evaluation = EvaluationJob(
        bundle.path, checkpoint.path, job.eval_text, device="cpu", limits=limits, output=job.output
    )
    if job.rubrics and job.prompt == RUBRIC and checkpoint.is_small:
        with copy_of(checkpoint, None, job, job.output, "reference", on_progress) as reference:
            evaluation = replace(evaluation, reference=reference.path)
            quality, changed = measure_export(evaluation, checkpoint, on_progress)
    else:
        quality, changed = measure_export(evaluation, checkpoint, on_progress)
    files = {**manifest.files, GRAPH_FILE: describe_file(bundle.path / GRAPH_FILE)} if changed else manifest.files
    return replace(manifest, quality=quality.figures, files=files)
