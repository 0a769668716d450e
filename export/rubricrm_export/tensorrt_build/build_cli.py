"""`rubricrm build`: what is made on the GPU machine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rubricrm_export.system.termination import terminated_cleanly


@click.group()
def build() -> None:
    """Make what runs on this machine's GPU."""


@build.command("tensorrt-llm")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("-o", "--output", "output", type=click.Path(path_type=Path), required=True, help="Engine to write.")
@click.option("--force", is_flag=True, help="Replace an existing engine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def tensorrt_llm(directory: Path, output: Path, force: bool, as_json: bool) -> None:
    """Build a TensorRT-LLM 1.2 engine of DIRECTORY, by `export tensorrt --for tensorrt-llm-1.2`. Needs its GPU."""
    from rubricrm_export.tensorrt_build.engine_build import build_engine

    with terminated_cleanly():
        gpu = build_engine(directory, output, force=force)
    report = {"engine": str(output), "gpu": gpu.name, "compute_capability": gpu.capability / 10}
    click.echo(json.dumps(report, indent=2) if as_json else "\n".join(f"{k:21} {v}" for k, v in report.items()))


@build.command("edge-llm")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("-o", "--output", "output", type=click.Path(path_type=Path), required=True, help="Directory to write.")
@click.option(
    "--environment",
    type=click.Path(path_type=Path),
    help="Virtual environment with tensorrt-edgellm[export].  [default: one of our own, made if it is missing]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def edge_llm(directory: Path, output: Path, environment: Path | None, as_json: bool) -> None:
    """Write the ONNX graph of DIRECTORY, by `export tensorrt --for edge-llm`. Needs no GPU."""
    from rubricrm_export.tensorrt_build.edge_onnx import export_edge_onnx

    with terminated_cleanly():
        command = export_edge_onnx(directory, output, environment=environment)
    report = {"onnx": str(output), "next": command}
    click.echo(json.dumps(report, indent=2) if as_json else f"{'onnx':21} {output}\n{'on the device':21} {command}")
