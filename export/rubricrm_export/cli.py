"""`rubricrm export`: options to calls, progress and results to text or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rubricrm.errors import DependencyMissing, OptionInvalid
from rubricrm.runtime.installation import missing_package
from rubricrm.runtime.manifest import ACTIVATIONS, TARGETS, WEIGHTS

from rubricrm_export.quantize.vocabulary import BLOCK_SIZES, HEAD_BLOCK_SIZES, HEADS, KV_CACHES, METHODS
from rubricrm_export.system.collected_warnings import collected_warnings
from rubricrm_export.system.export_options import export_options
from rubricrm_export.system.progress_bar import progress_bar
from rubricrm_export.system.termination import terminated_cleanly
from rubricrm_export.tensorrt_build.cli import tensorrt

if TYPE_CHECKING:
    from rubricrm.runtime.bundle import Bundle
    from rubricrm.runtime.manifest import Manifest

    from rubricrm_export.onnx_bundle.options import OnnxExport
    from rubricrm_export.onnx_bundle.plan import ExportPlan


class _MaxKl(click.ParamType[float | str]):
    """A number, or "none"."""

    name = "max-kl"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Return what OnnxExport takes."""
        return "none" if value == "none" else click.FLOAT.convert(value, param, ctx)


@click.group()
def export() -> None:
    """Convert a checkpoint into something that runs."""


export.add_command(tensorrt)


@export.command()
@click.argument("checkpoint")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Bundle to write.")
@click.option(
    "--weights",
    type=click.Choice(WEIGHTS),
    help="What matrices are stored in.  [default: the checkpoint's own type]",
)
@click.option("--activations", type=click.Choice(ACTIVATIONS), default="none", show_default=True)
@click.option(
    "--kv",
    type=click.Choice(KV_CACHES),
    help="KV cache.  [default: float16 for cpu unless weights are fp32, else model]",
)
@click.option("--method", type=click.Choice(METHODS), help="How weights are rounded.")
@click.option("--block-size", type=click.Choice(BLOCK_SIZES), help="Inputs that share a scale.")
@click.option("--symmetric/--asymmetric", default=None, help="INT4 without or with zero points.  [default: with]")
@click.option("--head", type=click.Choice(HEADS), help="Embedding and output head.")
@click.option("--head-block-size", type=click.Choice(HEAD_BLOCK_SIZES), help="Their inputs that share a scale.")
@click.option("--target", type=click.Choice(TARGETS), default="cpu", show_default=True)
@click.option(
    "--context-length", type=int, metavar="N", help="For tensorrt: positions of its buffers.  [default: 2048]"
)
@click.option("--calibration", default="self", metavar="FILE|self", show_default=True, help="Text to calibrate on.")
@click.option("--eval-text", type=click.Path(path_type=Path), help="Text to measure the loss on.")
@click.option("--no-rubrics", "rubrics", is_flag=True, default=True, flag_value=False, help="Do not compare rubrics.")
@click.option(
    "--max-kl",
    type=_MaxKl(),
    metavar="X|none",
    help="Refuse a bundle that loses more, nats per token.  [default: its recipe's]",
)
@click.option("--min-top1", type=float, metavar="Y", help="Refuse a bundle that agrees less, 0 to 1.")
@click.option(
    "--exporter",
    type=click.Choice(("rubricrm", "optimum")),
    default="rubricrm",
    show_default=True,
    help="optimum: optimum-onnx's own export, in float32.",
)
@click.option("--environment", type=click.Path(path_type=Path), help="Virtual environment with optimum-onnx.")
@export_options
@click.pass_context
def onnx(context: click.Context, /, dry_run: bool, as_json: bool, exporter: str, **options: Any) -> None:
    """Convert CHECKPOINT, a directory or a name on the Hugging Face hub, into an ONNX bundle."""
    with collected_warnings() as warnings:
        if exporter == "optimum":
            report = _export_with_optimum(context, options)
        else:
            if options.pop("environment") is not None:
                raise OptionInvalid("--environment has no meaning without --exporter optimum. Leave it out.")
            report = _export(dry_run, options)
    report["warnings"] = warnings
    click.echo(json.dumps(report, indent=2) if as_json else _text(report))


def _export(dry_run: bool, options: dict[str, Any]) -> dict[str, Any]:
    job, plan_onnx, export_onnx, verdict_on = _load(options)
    if dry_run:
        return _planned(plan_onnx(job))
    with terminated_cleanly(), progress_bar() as on_progress:
        bundle = export_onnx(job, on_progress)
    quality = bundle.manifest.quality
    return _written(bundle) | ({} if quality is None else {"verdict": verdict_on(job, quality)})


def _export_with_optimum(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    try:
        from rubricrm_export.onnx_bundle.optimum import OptimumExport, export_optimum
    except ImportError as error:
        raise _missing(error) from error
    common = {name: options[name] for name in vars(OptimumExport("", Path())) if name != "source"}
    allowed = {*common, "checkpoint", "exporter", "as_json"}
    for name in context.params:
        if name not in allowed and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(parameter.opts[0] for parameter in context.command.params if parameter.name == name)
            raise OptionInvalid(f"{option} has no meaning with --exporter optimum, which writes float32. Leave it out.")
    with terminated_cleanly(), progress_bar() as on_progress:
        return _written(export_optimum(OptimumExport(options["checkpoint"], **common), on_progress))


def _written(bundle: Bundle) -> dict[str, Any]:
    """Return what is said of a new bundle."""
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "num_bytes": bundle.num_bytes,
        "manifest_sha256": bundle.manifest_sha256,
        "model": manifest.model.name,
        "weights": manifest.quantization.weights,
        "target": manifest.graph.target,
        "license": manifest.model.license,
        **_quantized(manifest),
    }


def _quantized(manifest: Manifest) -> dict[str, Any]:
    """Return what a report says of a quantized bundle."""
    if manifest.quality is None:
        return {}
    facts = manifest.quantization
    return {
        "activations": facts.activations,
        "kv_cache": manifest.graph.kv_type,
        "method": facts.method,
        "quality": dict(sorted(manifest.quality.items())),
    }


def _text(report: dict[str, Any]) -> str:
    rows = {key: "not declared" if value is None else value for key, value in report.items()}
    lines = [(key, value) for key, value in rows.items() if key not in ("quality", "warnings")]
    lines += [(key, f"{value:.6g}") for key, value in report.get("quality", {}).items()]
    lines += [("warning", warning) for warning in report["warnings"]]
    return "\n".join(f"{key:21} {value}" for key, value in lines)


def _load(options: dict[str, Any]) -> tuple[OnnxExport, Any, Any, Any]:
    """Import the exporter, which needs the extra; the command's help does not."""
    try:
        from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx, plan_onnx, verdict_on
    except ImportError as error:
        raise _missing(error) from error
    return OnnxExport(source=options.pop("checkpoint"), **options), plan_onnx, export_onnx, verdict_on


def _missing(error: ImportError) -> DependencyMissing:
    return missing_package("exporting", error, "cpu", "export")


def _planned(plan: ExportPlan) -> dict[str, Any]:
    manifest = plan.manifest
    return {
        "dry_run": True,
        "model": manifest.model.name,
        "architecture": manifest.model.architecture,
        "num_parameters": manifest.model.num_parameters,
        "license": manifest.model.license,
        "weights": manifest.quantization.weights,
        "target": manifest.graph.target,
        "weight_bytes": plan.weight_bytes,
        "template_source": manifest.prompt.template_source,
        "prefix_tokens": manifest.prompt.prefix.num_tokens,
        "stop_ids": list(manifest.prompt.stop_ids),
    }
