"""An export that the machine's memory cannot hold is refused before it begins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.errors import ExportFailed
from rubricrm_export.onnx_bundle import memory
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx, plan_onnx
from rubricrm_export.onnx_bundle.memory import required_memory

MakeCheckpoint = Callable[..., Path]


def required(checkpoint: Path, **options: Any) -> int:
    plan = plan_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "bundle", **options))
    return required_memory(plan, Checkpoint.open(checkpoint).architecture)


def test_what_each_kind_of_export_needs(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    streamed, rounded = required(checkpoint), required(checkpoint, weights="int8")
    calibrated = required(checkpoint, weights="int8", method="gptq")
    assert streamed < rounded <= calibrated
    # A wider model needs more: hidden and inner size enter the calibration by their squares.
    wide = make_checkpoint(name="wide", intermediate_size=2048)
    assert required(wide, weights="int8", method="gptq") > calibrated + 4 * 4 * 2000**2


def test_too_little_memory(make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_checkpoint()
    monkeypatch.setattr(memory, "total_memory_bytes", lambda: 300 << 20)
    job = OnnxExport(str(checkpoint), checkpoint.parent / "bundle", weights="int4", method="gptq")
    with pytest.raises(ExportFailed, match=r"needs about \d{3} MB .* may use 315 MB\..*with --method rtn"):
        export_onnx(job)
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_memory_that_cannot_be_told(make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_checkpoint()
    monkeypatch.setattr(memory, "total_memory_bytes", lambda: None)
    assert export_onnx(OnnxExport(str(checkpoint), checkpoint.parent / "bundle")).path.is_dir()
