"""`rubricrm eval`: options to a comparison, its figures to a table or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rubricrm.runtime.byte_size import byte_text
from rubricrm.runtime.installation import missing_package
from rubricrm.runtime.manifest import DEVICES

from rubricrm_export.system.progress_bar import progress_bar

if TYPE_CHECKING:
    from rubricrm_export.measure.evaluation import Evaluation
    from rubricrm_export.measure.layer_errors import LayerError


@click.command("eval")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--reference", type=click.Path(path_type=Path), required=True, help="Bundle or checkpoint to trust.")
@click.option("--text", type=click.Path(path_type=Path), help="Text or JSONL file.  [default: built-in rubrics]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--per-layer", is_flag=True, help="Also show what each layer loses.")
@click.option("--no-rubrics", is_flag=True, help="Do not let the models write rubrics.")
@click.option("--device", type=click.Choice(tuple(DEVICES)), help="Where to run.  [default: the bundle's target]")
@click.option("--threads", type=int, metavar="N", help="Threads to compute with.  [default: usable cores]")
@click.option("--max-kl", type=float, metavar="X", help="Fail if more is lost, nats per token.")
@click.option("--min-top1", type=float, metavar="Y", help="Fail if fewer tokens agree, 0 to 1.")
def evaluate(as_json: bool, no_rubrics: bool, max_kl: float | None, min_top1: float | None, **options: Any) -> None:
    """Measure what BUNDLE lost against a reference: distributions of the next token, and rubrics.

    KL is in nats per token, teacher-forced; a file is read in sequences of 512 tokens. Two bundles are open at once; a
    checkpoint as the reference is read one layer at a time.
    """
    job_type, limits_type, run = _load()
    job = job_type(with_rubrics=not no_rubrics, limits=limits_type(max_kl, min_top1), **options)
    with progress_bar() as on_progress:
        evaluation = run(job, on_progress)
    click.echo(json.dumps(evaluation.to_dict(), ensure_ascii=False, indent=2) if as_json else _table(evaluation))
    if evaluation.failure is not None:
        raise evaluation.failure


def _load() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Evaluation]]:
    """Import what needs the extra; the command's help does not."""
    try:
        from rubricrm_export.measure.evaluation import EvaluationJob, evaluate
        from rubricrm_export.measure.verdict import LossLimits
    except ImportError as error:
        raise missing_package("evaluating", error, "cpu", "export") from error
    return EvaluationJob, LossLimits, evaluate


def _table(evaluation: Evaluation) -> str:
    report, quality = evaluation.to_dict(), evaluation.quality
    spread = "" if quality.kl_stderr is None else f" +- {quality.kl_stderr:.2g}"
    rows = {
        "bundle": _model(report["bundle"]),
        "reference": _model(report["reference"]),
        "text": f"{evaluation.text}, {quality.num_tokens:,} tokens",
        "KL": f"{quality.kl:.4g}{spread} nats per token",
        "top-1": f"{100 * quality.top1_agreement:.2f} % of tokens the same",
        "perplexity": f"{quality.perplexity:.4g} (reference {quality.reference_perplexity:.4g})",
        "rubrics": _rubrics(evaluation),
    }
    lines = [f"{key:10} {value}" for key, value in rows.items()]
    return "\n".join([*lines, *_layer_lines(evaluation.layers, report.get("worst_layers", []))])


def _model(facts: dict[str, Any]) -> str:
    if "manifest_sha256" not in facts:
        return f"{facts['path']} (checkpoint, in float32)"
    activations = "" if facts["activations"] == "none" else f", activations {facts['activations']}"
    return (
        f"{facts['path']} (weights {facts['weights']}{activations}, KV cache {facts['kv_cache']}, "
        f"{byte_text(facts['num_bytes'])})"
    )


def _rubrics(evaluation: Evaluation) -> str:
    found, agreement = evaluation.quality.rubrics, evaluation.quality.rubric_agreement
    if found is None:
        return f"not compared: {evaluation.without_rubrics or 'no built-in request fits the context'}"
    if agreement is None:
        return f"not compared: neither model wrote a criterion for {found.num_requests} requests"
    return (
        f"{100 * agreement:.1f} % of criteria the same, {found.kinds_flipped} of {found.common_criteria} with another "
        f"kind; {100 * found.identical:.0f} % of {found.num_requests} rubrics identical"
    )


def _layer_lines(layers: Sequence[LayerError] | None, worst: Sequence[int]) -> list[str]:
    if layers is None:
        return []
    lines = ["", "layer   error  added"]
    lines += [f"{layer.layer:5} {layer.error:7.4f} {layer.added:6.4f}" for layer in layers]
    return [*lines, f"worst layers: {', '.join(map(str, worst)) or 'none, all are equal'}"]
