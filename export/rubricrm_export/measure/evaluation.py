"""The work behind `rubricrm eval`: a bundle beside a reference, on one text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rubricrm.errors import OptionInvalid
from rubricrm.runtime.bundle import MANIFEST_NAME, Bundle, file_sha256
from rubricrm.runtime.manifest import RUBRIC
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_export.calibrate.texts import held_out_rubrics, held_out_text, read_text
from rubricrm_export.calibrate.token_text import TokenText
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.checkpoint.files import CONFIG, TOKENIZER
from rubricrm_export.errors import QualityTooLow
from rubricrm_export.measure.layer_errors import LayerError, layer_errors, worst_layers
from rubricrm_export.measure.logit_source import BundleLogits, CheckpointLogits, LogitSource
from rubricrm_export.measure.quality import Quality, measure
from rubricrm_export.measure.rubric_agreement import NUM_REQUESTS, RubricAgreement, compare_rubrics, write_rubrics
from rubricrm_export.measure.verdict import LossLimits
from rubricrm_export.system.progress_bar import Progress, no_progress

MAX_TOKENS = 8192  # 16 windows; more would change no figure by more than its standard error
_MIN_TOKENS = 2

Reference = Bundle | Checkpoint


@dataclass(frozen=True)
class EvaluationJob:
    """What to compare, and how.

    Attributes:
        bundle: The candidate's directory.
        reference: The directory of a bundle or of a checkpoint.
        text: A file; None takes the built-in requests and rubrics, in the bundle's own prompt.
        device: Where the candidate runs; None: what it was exported for, as the reference always does.
        threads: Threads to compute with; None takes the usable cores.
        with_rubrics: Also let both write rubrics, where both are bundles with the same prompt.
        per_layer: Also compare them layer by layer.
        limits: What may be lost.
        output: Where the candidate will lie, for messages; None: where it does.
    """

    bundle: Path
    reference: Path
    text: Path | None = None
    device: str | None = None
    threads: int | None = None
    with_rubrics: bool = True
    per_layer: bool = False
    limits: LossLimits = field(default_factory=LossLimits)
    output: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        bundle: The candidate.
        reference: What it was compared with.
        text: Name of the text.
        quality: The figures.
        without_rubrics: Why no rubrics were compared; None where they were.
        layers: One entry per layer, None where they were not asked for.
        failure: What is beyond the job's limits, to raise after the figures were shown; None where nothing is.
    """

    bundle: Bundle
    reference: Reference
    text: str
    quality: Quality
    without_rubrics: str | None
    layers: list[LayerError] | None
    failure: QualityTooLow | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what `rubricrm eval --json` prints."""
        quality, layers = self.quality, self.layers
        report = {
            "bundle": describe(self.bundle),
            "reference": describe(self.reference),
            "text": self.text,
            "num_tokens": quality.num_tokens,
            "kl": quality.kl,
            "kl_stderr": quality.kl_stderr,
            "top1_agreement": quality.top1_agreement,
            "perplexity": quality.perplexity,
            "reference_perplexity": quality.reference_perplexity,
            "rubric_agreement": quality.rubric_agreement,
            "rubrics": None if quality.rubrics is None else quality.rubrics.to_dict(),
        }
        if layers is not None:
            report |= {"layers": [asdict(layer) for layer in layers], "worst_layers": worst_layers(layers)}
        return report


def evaluate(job: EvaluationJob, on_progress: Progress | None = None) -> Evaluation:
    """Compare a bundle with a reference.

    Two bundles are open side by side while distributions are compared: their memory adds up. A checkpoint is read one
    layer at a time. Rubrics and layers open one model at a time.

    Args:
        job: What to compare.
        on_progress: Gets what is being done, and how far it is.

    Raises:
        OptionInvalid: The models do not share a tokenizer, or an option or the text is not sound.
        QualityTooLow: A model's logits are no numbers.
        RubricrmError: A model cannot be opened or run.
    """
    bundle, reference = Bundle.open(job.bundle), open_reference(job.reference)
    require_same_tokenizer(bundle, reference)
    text = evaluation_text(job, bundle)
    report = on_progress or no_progress
    quality = measure(
        _reference_logits(job, reference, text, report),
        BundleLogits(bundle, text, device=_device(job, bundle), threads=job.threads),
        text,
        bundle.manifest.tokenizer.num_tokens,
        partial(report, "Comparing"),
    )
    layers = _layers(job, bundle, reference, text) if job.per_layer else None
    without_rubrics = _reason_without_rubrics(job, bundle, reference)
    if without_rubrics is None and isinstance(reference, Bundle):
        quality = replace(quality, rubrics=_rubrics(job, bundle, reference, report))
    failure = None
    try:
        job.limits.require(
            quality,
            str(job.output or bundle.path),
            lambda: worst_layers(layers or _layers(job, bundle, reference, text)),
        )
    except QualityTooLow as error:
        failure = error
    return Evaluation(bundle, reference, text.name, quality, without_rubrics, layers, failure)


def open_reference(path: Path) -> Reference:
    """Open a bundle, or a checkpoint.

    Raises:
        BundleNotFound: Neither is there.
        RubricrmError: As `Bundle.open` and `Checkpoint.open`.
    """
    is_checkpoint = not (path / MANIFEST_NAME).exists() and (path / CONFIG).exists()
    return Checkpoint.open(path) if is_checkpoint else Bundle.open(path)


def require_same_tokenizer(bundle: Bundle, reference: Reference) -> None:
    """Check that the ids of both models mean the same.

    Raises:
        OptionInvalid: Their tokenizers differ.
        CheckpointInvalid: The reference's tokenizer cannot be read.
    """
    facts = bundle.manifest
    digest = facts.files[facts.tokenizer.file].sha256
    if isinstance(reference, Bundle):
        other = reference.manifest
        same = facts.tokenizer.num_tokens == other.tokenizer.num_tokens
        other_digest = other.files[other.tokenizer.file].sha256
    else:
        same, other_digest = True, file_sha256(reference.path / TOKENIZER)
    if not same or digest != other_digest:
        raise OptionInvalid(
            f"{bundle.path} and {reference.path}: their tokenizers differ (tokenizer.json has SHA-256 {digest[:12]} "
            f"and {other_digest[:12]}), so their distributions cannot be compared. Give a reference of the same model."
        )


def describe(model: Reference) -> dict[str, Any]:
    """Return the facts that tell which model was measured."""
    if isinstance(model, Checkpoint):
        return {"path": str(model.path), "name": model.path.name, "weights": "checkpoint", "computed": "float32"}
    facts = model.manifest
    return {
        "path": str(model.path),
        "name": facts.model.name,
        "manifest_sha256": model.manifest_sha256,
        "num_bytes": model.num_bytes,
        **asdict(facts.quantization),
        "kv_cache": facts.graph.kv_type,
    }


def _wording(bundle: Bundle) -> tuple[object, ...]:
    """Return what decides the prompts of a bundle and the ends of its answers."""
    prompt = bundle.manifest.prompt
    return prompt.template, prompt.fields, prompt.stop_ids, bundle.manifest.chat


def _device(job: EvaluationJob, bundle: Bundle) -> str:
    return job.device or bundle.manifest.graph.target


def evaluation_text(job: EvaluationJob, bundle: Bundle) -> TokenText:
    """Return the text of a job, in the tokens of a bundle; errors as `read_text` and `held_out_text`."""
    facts = bundle.manifest
    context = facts.model.context_length
    tokenizer = Tokenizer.from_file(bundle.file(facts.tokenizer.file))
    if job.text is not None:
        return read_text(job.text, tokenizer, context, min_tokens=_MIN_TOKENS, max_tokens=MAX_TOKENS)
    if facts.prompt_name != RUBRIC:
        raise OptionInvalid(
            f"{bundle.path}: has the prompt {facts.prompt_name}, and the built-in texts are rubrics. Pass a text of "
            "yours."
        )
    return held_out_text(Prompt(facts.prompt, facts.chat, tokenizer), tokenizer, context, max_tokens=MAX_TOKENS)


def _reference_logits(job: EvaluationJob, reference: Reference, text: TokenText, report: Progress) -> LogitSource:
    if isinstance(reference, Checkpoint):
        running = partial(report, "Running the checkpoint")
        return CheckpointLogits(reference, text, threads=job.threads, on_progress=running)
    return BundleLogits(reference, text, device=reference.manifest.graph.target, threads=job.threads)


def _layers(job: EvaluationJob, bundle: Bundle, reference: Reference, text: TokenText) -> list[LayerError]:
    reference_device = reference.manifest.graph.target if isinstance(reference, Bundle) else "cpu"
    return layer_errors(
        bundle, reference, text, device=_device(job, bundle), reference_device=reference_device, threads=job.threads
    )


def _reason_without_rubrics(job: EvaluationJob, bundle: Bundle, reference: Reference) -> str | None:
    if not job.with_rubrics:
        return "not asked for"
    if bundle.manifest.prompt_name != RUBRIC:
        return "the bundle is a judge"
    if isinstance(reference, Checkpoint):
        return "the reference is a checkpoint; a bundle of it can write rubrics"
    if _wording(bundle) != _wording(reference):
        return "the two have different prompts"
    return None


def _rubrics(job: EvaluationJob, bundle: Bundle, reference: Bundle, report: Progress) -> RubricAgreement | None:
    requests = [request for request, _ in held_out_rubrics()][:NUM_REQUESTS]
    written: list[Any] = []
    for name, model, device in (
        ("the reference", reference, reference.manifest.graph.target),
        ("the bundle", bundle, _device(job, bundle)),
    ):
        on_progress: Callable[[int, int], None] = partial(report, f"Rubrics of {name}")
        written.append(write_rubrics(model, requests, device=device, threads=job.threads, on_progress=on_progress))
    return compare_rubrics(*written)
