"""A graph whose weights nobody has derived yet is skipped by librubricrm, with a warning that names the remedy."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path

import pytest
import rubricrm_ctypes as native
from rubricrm import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.conversion import convert_bundle
from rubricrm.runtime.kernels import find_kernels

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("RUBRICRM_NATIVE_BUILD", ROOT / "build" / "native" / "release"))
LIBRARY = BUILD / "librubricrm.so"
KERNELS = find_kernels().library

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not LIBRARY.is_file(), reason=f"no librubricrm in {BUILD}: run `make native-release`"),
    pytest.mark.skipif(KERNELS is None, reason="the kernels cannot be used here"),
]


def kernels_and_warnings(bundle: Path) -> tuple[str, list[str]]:
    """What runs a bundle, and what is said while it is opened."""
    import onnxruntime

    warnings: list[str] = []
    on_warning = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p)(
        lambda message, _: warnings.append(message.decode())
    )
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    model = native.Model(
        native.Library(LIBRARY),
        bundle,
        threads=1,
        onnxruntime=str(found[0]).encode(),
        kernels=str(KERNELS).encode(),
        on_warning=ctypes.cast(on_warning, ctypes.c_void_p),
    )
    result = json.loads(model.generate("Write a haiku about rain.", max_new_tokens=2))
    model.close()
    return result["model"]["kernels"], warnings


def test_it_is_named_until_the_package_has_derived_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "cache"))
    bundle = tmp_path / "standard"
    convert_bundle(Bundle.open(ROOT / "tests" / "cases" / "engine" / "int4"), "standard", bundle)
    kernels, warnings = kernels_and_warnings(bundle)
    assert kernels.startswith("onnxruntime (its weights in the layout packed")
    assert len(warnings) == 1
    assert "model.step.onnx is not run" in warnings[0]
    assert "rubricrm convert --layout packed" in warnings[0]

    with RubricModel.open(bundle, threads=1):
        pass
    kernels, warnings = kernels_and_warnings(bundle)
    assert kernels.startswith("rubricrm ")
    assert warnings == []
