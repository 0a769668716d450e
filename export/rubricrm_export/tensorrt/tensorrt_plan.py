"""What an export for TensorRT will write: every option checked against the checkpoint, before any weight is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rubricrm.engines.engine_directory import DIRECTORY_FILE
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.published_directory import check_output

from rubricrm_export.checkpoint.architecture import EMBEDDING
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.checkpoint.hub import resolve_checkpoint
from rubricrm_export.onnx_bundle.memory import check_memory
from rubricrm_export.onnx_bundle.plan import ExportPlan, chat_template_of, make_plan
from rubricrm_export.quantize.combinations import READER
from rubricrm_export.quantize.scheme import Scheme
from rubricrm_export.tensorrt.float_type import BF16, FP16, FloatType
from rubricrm_export.tensorrt.job import NO_CALIBRATION, EngineLimits, TensorRTExport
from rubricrm_export.tensorrt.support import Choice, width_refusal

# A reader's name of a KV cache, and a scheme's: readers have one scale per layer.
_KV_CACHES = {"model": "model", "int8": "int8-tensor", "fp8": "fp8"}


@dataclass(frozen=True)
class TensorRTPlan:
    """What will be written, of which checkpoint.

    Attributes:
        job: The options.
        choice: The format.
        limits: What an engine is built for.
        bundle: What calibration is told: that of an export to ONNX, with this format's scheme.
        checkpoint: Open as long as `open_plan` is.
    """

    job: TensorRTExport
    choice: Choice
    limits: EngineLimits
    bundle: ExportPlan
    checkpoint: Checkpoint

    @property
    def calibrates(self) -> bool:
        """Whether the model must run on some text first."""
        scheme = self.bundle.scheme
        needs = scheme.needs_calibration or scheme.activations != "none"
        return needs and self.job.calibration != NO_CALIBRATION

    @property
    def float_type(self) -> FloatType:
        """Type of what is not quantized: as asked, or as stored; Edge-LLM computes in FP16 alone."""
        row = self.choice.format
        if row.weights in ("fp16", "bf16"):
            return FP16 if row.weights == "fp16" else BF16
        return FP16 if row.reader == "edge-llm" or self.bundle.scheme.float_weights == "fp16" else BF16

    def report(self) -> dict[str, Any]:
        """Return what `--dry-run` prints."""
        model, prompt, row = self.bundle.manifest.model, self.bundle.manifest.prompt, self.choice.format
        return {
            "dry_run": True,
            "for": row.reader,
            "model": model.name,
            "architecture": model.architecture,
            "num_parameters": model.num_parameters,
            "license": model.license or "not declared",
            "weights": row.weights,
            "algorithm": row.algorithm or "floats",
            "kv": self.choice.kv,
            "method": self.choice.method,
            "head": self.choice.head,
            "device": self.choice.device or "any",
            "calibration": self.job.calibration if self.calibrates else NO_CALIBRATION,
            "max_batch_size": self.limits.max_batch_size,
            "max_input_len": self.limits.max_input_len,
            "max_seq_len": self.limits.max_seq_len,
            "prompt": self.job.prompt,
            "template_source": prompt.template_source,
            "stop_ids": list(prompt.stop_ids),
        }


@contextmanager
def open_plan(job: TensorRTExport) -> Iterator[TensorRTPlan]:
    """Check everything that can be checked without reading weights, and open the checkpoint.

    Raises:
        RubricrmError: The checkpoint or an option is not sound, the output exists, or memory does not suffice.
    """
    choice = job.choice()
    check_output(job.output, force=job.force, marker=DIRECTORY_FILE)
    resolved = resolve_checkpoint(job.source, job.revision)
    job = replace(job, chat_template=chat_template_of(job, resolved.path))
    with Checkpoint.open(resolved.path) as checkpoint:
        _require_widths(checkpoint, choice)
        context = checkpoint.architecture.context_length
        limits = EngineLimits.of(context, job.max_batch_size, job.max_input_len, job.max_seq_len)
        bundle = make_plan(job.calibrating(), resolved, checkpoint)
        bundle = replace(bundle, scheme=scheme_of_format(choice, bundle.scheme.float_weights))
        plan = TensorRTPlan(job, choice, limits, bundle, checkpoint)
        if plan.calibrates:
            check_memory(bundle, checkpoint.architecture, is_measured=False)
        elif job.resume:
            raise OptionInvalid("--resume continues a calibration, and this export has none. Leave it out.")
        yield plan


def _require_widths(checkpoint: Checkpoint, choice: Choice) -> None:
    """Refuse a model whose matrices the format cannot hold.

    Raises:
        OptionInvalid: Groups of inputs do not divide a matrix, or its rows cannot be put in pairs.
    """
    shapes = {
        name: (shape[0], shape[1])
        for name, shape in checkpoint.architecture.tensor_shapes(tied=True).items()
        if len(shape) == 2 and (name.startswith("model.layers.0.") or (name == EMBEDDING and choice.head == "int4"))
    }
    reason = width_refusal(choice.format, shapes)
    if reason is not None:
        raise OptionInvalid(f"{checkpoint.path}: {reason}.")


def scheme_of_format(choice: Choice, float_weights: str) -> Scheme:
    """Return what calibration does for a format."""
    row = choice.format
    if not row.methods:  # floats, whatever the reader rounds them to
        return Scheme.of(READER, float_weights, kv=_KV_CACHES[choice.kv])
    return Scheme.of(
        READER,
        float_weights,
        weights=row.weights,
        activations=row.form.activations,
        kv=_KV_CACHES[choice.kv],
        method=choice.method,
    )
