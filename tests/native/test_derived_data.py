"""Weights in another layout than the bundle's: librubricrm and the Python package derive the same files."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import pytest
import rubricrm_ctypes as native
from both_sides import LIBRARY, ROOT, model_options, needs_library
from own_kernels import needs_kernels
from rubricrm import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.conversion import convert_bundle
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from short_texts import CALIBRATION, EVALUATION

pytestmark = [pytest.mark.native, needs_library, needs_kernels]

WEIGHTS: tuple[dict[str, Any], ...] = (
    {"weights": "int4"},
    {"weights": "int4", "block_size": "32", "symmetric": True},
    {"weights": "int8", "kv": "int8"},
)
WARNING_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p)


def kernels_and_warnings(bundle: Path, cache: Path, **options: Any) -> tuple[str, list[str]]:
    """What runs a bundle, and what is said while it is opened."""
    warnings: list[str] = []
    on_warning = WARNING_CALLBACK(lambda message, _: warnings.append(message.decode()))
    chosen = {**model_options(), "on_warning": ctypes.cast(on_warning, ctypes.c_void_p), **options}
    model = native.Model(native.Library(LIBRARY), bundle, cache_directory=str(cache).encode(), **chosen)
    result = json.loads(model.generate("Write a haiku about rain.", max_new_tokens=2))
    model.close()
    return result["model"]["kernels"], warnings


def derived(cache: Path) -> dict[str, bytes]:
    """The data files in a cache directory, and all that lies beside them."""
    found = {path: path.read_bytes() for path in cache.glob("*/data-*/*")}
    return {str(path.relative_to(cache)): data for path, data in found.items()}


def identity(path: Path) -> tuple[int, int]:
    """What another file of the same name would not have."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def python_derives(bundle: Path, cache: Path, patch: pytest.MonkeyPatch) -> dict[str, bytes]:
    patch.setenv("RUBRICRM_CACHE", str(cache))
    with RubricModel.open(bundle, threads=1):
        pass
    return derived(cache)


@pytest.fixture(params=WEIGHTS, ids=lambda way: "-".join(str(value) for value in way.values()))
def packed(request: pytest.FixtureRequest, odd_checkpoint: Path, tmp_path: Path) -> Path:
    for name, text in (("calibration", CALIBRATION), ("evaluation", EVALUATION)):
        (tmp_path / f"{name}.txt").write_text(text, "utf-8")
    (tmp_path / "template.txt").write_text("List criteria.\n\nRequest:\n{prompt}\n\nRubric:", "utf-8")
    job = OnnxExport(
        str(odd_checkpoint),
        tmp_path / "packed",
        calibration=str(tmp_path / "calibration.txt"),
        eval_text=tmp_path / "evaluation.txt",
        prompt_template=tmp_path / "template.txt",
        rubrics=False,
        max_kl="none",
        **request.param,
    )
    return export_onnx(job).path


def test_both_sides_write_the_same_bytes(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of each layout is opened where it needs the data of the other one."""
    standard = convert_bundle(Bundle.open(packed), "standard", tmp_path / "standard").path
    kernels, warnings = kernels_and_warnings(standard, tmp_path / "ours")
    assert kernels.startswith("rubricrm ")
    assert warnings == []
    expected = python_derives(standard, tmp_path / "theirs", monkeypatch)
    assert [Path(name).parent.name for name in expected] == ["data-packed"]
    assert derived(tmp_path / "ours") == expected

    # Without the kernels the other graph runs.
    kernels, warnings = kernels_and_warnings(packed, tmp_path / "ours", kernels=b"/no/such/library")
    assert kernels.startswith("onnxruntime (")
    assert warnings == []
    monkeypatch.setenv("RUBRICRM_KERNELS", "off")
    expected |= python_derives(packed, tmp_path / "theirs", monkeypatch)
    assert sorted(Path(name).parent.name for name in expected) == ["data-packed", "data-standard"]
    assert derived(tmp_path / "ours") == expected


def test_either_side_uses_what_the_other_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, cache = tmp_path / "standard", tmp_path / "cache"
    convert_bundle(Bundle.open(ROOT / "tests" / "cases" / "engine" / "int4"), "standard", bundle)
    kernels_and_warnings(bundle, cache)
    (data,) = cache.glob("*/data-packed/*")
    written = identity(data)
    python_derives(bundle, cache, monkeypatch)
    assert identity(data) == written

    data.unlink()
    python_derives(bundle, cache, monkeypatch)
    written = identity(data)
    kernels, warnings = kernels_and_warnings(bundle, cache)
    assert kernels.startswith("rubricrm ")
    assert (identity(data), warnings) == (written, [])


def test_a_cache_that_cannot_be_used_costs_a_warning(tmp_path: Path) -> None:
    bundle = tmp_path / "standard"
    convert_bundle(Bundle.open(ROOT / "tests" / "cases" / "engine" / "int4"), "standard", bundle)
    (tmp_path / "file").write_text("", "utf-8")
    kernels, warnings = kernels_and_warnings(bundle, tmp_path / "file" / "below")
    assert kernels.startswith("rubricrm ")
    assert "Set cache_directory to a directory of your own" in warnings[0]
