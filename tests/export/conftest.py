"""Exports of small checkpoints."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rubricrm.runtime.bundle import Bundle
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from short_texts import CALIBRATION, EVALUATION


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models this small are slower on two threads, and far slower on a busy machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Bundle]:
    """A function that exports a checkpoint into a bundle, calibrated and measured on short texts."""

    def make(checkpoint: Path, name: str = "bundle", **options: Any) -> Bundle:
        (tmp_path / "calibration.txt").write_text(CALIBRATION)
        (tmp_path / "evaluation.txt").write_text(EVALUATION)
        texts: dict[str, Any] = {
            "calibration": str(tmp_path / "calibration.txt"),
            "eval_text": tmp_path / "evaluation.txt",
        }
        return export_onnx(OnnxExport(str(checkpoint), tmp_path / name, **(texts | {"rubrics": False} | options)))

    return make
