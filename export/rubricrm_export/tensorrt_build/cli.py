"""`rubricrm export tensorrt`: options to calls, results to text or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.installation import missing_package

from rubricrm_export.errors import CheckpointInvalid
from rubricrm_export.system.collected_warnings import collected_warnings
from rubricrm_export.system.export_options import export_options
from rubricrm_export.system.progress_bar import progress_bar
from rubricrm_export.system.termination import terminated_cleanly
from rubricrm_export.tensorrt.devices import DEVICES
from rubricrm_export.tensorrt.option_values import HEADS, KV_CACHES, METHODS, READERS, WEIGHTS

if TYPE_CHECKING:
    from rubricrm_export.tensorrt_lint.findings import Finding


@click.command()
@click.argument("checkpoint", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--for", "reader", type=click.Choice(READERS), help="Who will read it.")
@click.option("--weights", type=click.Choice(WEIGHTS), help="What matrices are stored in.")
@click.option("--kv", type=click.Choice(KV_CACHES), default="model", show_default=True, help="KV cache.")
@click.option("--device", type=click.Choice(tuple(DEVICES)), help="The GPU it is for.  [default: any]")
@click.option("--method", type=click.Choice(METHODS), help="How weights are rounded.")
@click.option("--head", type=click.Choice(HEADS), help="Output head.  [default: model]")
@click.option("--calibration", default="self", metavar="FILE|self|none", show_default=True)
@click.option("--max-batch-size", type=click.IntRange(1), default=8, show_default=True, help="Requests at once.")
@click.option("--max-input-len", type=click.IntRange(1), help="Tokens of a prompt.  [default: half of max-seq-len]")
@click.option("--max-seq-len", type=click.IntRange(2), help="Tokens of prompt and answer.  [default: 4096 at most]")
@click.option("--check", is_flag=True, help="Only look for faults in CHECKPOINT, a directory for --for.")
@click.option("--list", "as_list", is_flag=True, help="Only print what each reader and GPU can run.")
@export_options
def tensorrt(
    checkpoint: str | None, *, check: bool, as_list: bool, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Convert CHECKPOINT, a directory or a name on the hub, for TensorRT-LLM, Edge-LLM or vLLM. Needs no GPU."""
    if as_list:
        _list(options["reader"], as_json=as_json)
    elif check:
        _check(checkpoint, options["reader"], options["device"], as_json=as_json)
    else:
        _export(checkpoint, options, dry_run=dry_run, as_json=as_json)


def _list(reader: str | None, *, as_json: bool) -> None:
    from rubricrm_export.tensorrt.support import describe_formats, supported

    readers = READERS if reader is None else (reader,)
    click.echo(json.dumps(supported(readers), indent=2) if as_json else describe_formats(readers))


def _check(directory: str | None, reader: str | None, device: str | None, *, as_json: bool) -> None:
    from rubricrm_export.tensorrt_lint.linter import count_faults, inspect_directory

    if directory is None or reader is None:
        raise OptionInvalid("--check needs a directory, and --for READER: what is a fault depends on who reads it.")
    findings = inspect_directory(Path(directory), reader, device)
    errors = [finding for finding in findings if finding.is_error]
    report = {"directory": directory, "for": reader, "errors": len(errors), "findings": [*map(_as_dict, findings)]}
    if as_json:
        click.echo(json.dumps(report, indent=2))
    elif not findings:
        click.echo(f"{directory}: no faults for --for {reader}")
    else:
        for finding in findings:
            click.echo(f"{'error' if finding.is_error else 'warning'} {finding}")
    if errors:
        raise CheckpointInvalid(f"{directory}: {count_faults(errors)} for --for {reader}.")


def _as_dict(finding: Finding) -> dict[str, Any]:
    keys = ("rule", "where", "message", "reason", "remedy", "is_error")
    return {key: getattr(finding, key) for key in keys}


def _require_given(checkpoint: str | None, options: dict[str, Any]) -> None:
    """Ask for what --list and --check go without."""
    for name, value in (("CHECKPOINT", checkpoint), ("-o", options["output"])):
        if value is None:
            raise OptionInvalid(f"{name} is missing: rubricrm export tensorrt CHECKPOINT -o DIR --for READER.")
    for option, value, values in (("for", options["reader"], READERS), ("weights", options["weights"], WEIGHTS)):
        if value is None:
            raise OptionInvalid(f"--{option} is missing: one of {', '.join(values)}. See --list.")


def _export(checkpoint: str | None, options: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    _require_given(checkpoint, options)
    try:
        from rubricrm_export.tensorrt.job import TensorRTExport
        from rubricrm_export.tensorrt_build.export import export_tensorrt, plan_tensorrt
    except ImportError as error:
        raise missing_package("exporting", error, "cpu", "export") from error
    job = TensorRTExport(source=str(checkpoint), **options)
    with collected_warnings() as warnings:
        if dry_run:
            report = plan_tensorrt(job)
        else:
            with terminated_cleanly(), progress_bar() as on_progress:
                report = export_tensorrt(job, on_progress).report()
    if as_json:
        click.echo(json.dumps({**report, "warnings": warnings}, indent=2))
        return
    click.echo("\n".join(f"{key:21} {value}" for key, value in report.items()))
    for warning in warnings:
        click.echo(f"{'warning':21} {warning}")
    if not dry_run:
        click.echo(f"{'next':21} on the GPU machine: {report['directory']}/build.sh (not run on a GPU)")
