"""An open model of librubricrm beside one of the Python package, and what their results must have in common."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import rubricrm_ctypes as native
from rubricrm.runtime.kernels import find_kernels

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("RUBRICRM_NATIVE_BUILD", ROOT / "build" / "native" / "release"))
LIBRARY = BUILD / "librubricrm.so"

needs_library = pytest.mark.skipif(
    not LIBRARY.is_file(), reason=f"no librubricrm in {BUILD}: run `make native-release`"
)


def model_options() -> dict[str, Any]:
    import onnxruntime

    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    kernels = find_kernels()
    chosen: dict[str, Any] = {"onnxruntime": str(found[0]).encode(), "threads": 1}
    return chosen if kernels.library is None else chosen | {"kernels": str(kernels.library).encode()}


def opened_model(library: native.Library, bundle: Path, **options: int) -> native.Model:
    try:
        return native.Model(library, bundle, **model_options(), **options)
    except native.RubricrmError as error:
        if error.code == "RUNTIME_MISSING":
            pytest.skip(str(error))
        raise


def comparable(text: str) -> dict[str, Any]:
    """What both sides must have in common: all but times, and a seed that was drawn."""
    result: dict[str, Any] = json.loads(text)
    assert set(result.pop("timings_ms")) == {"tokenize", "prefill", "first_token", "decode", "total"}
    result.pop("seed")
    return result


def assert_equal(found: Any, expected: Any, where: str = "result") -> None:
    """Compare values of JSON. Probabilities that are reported, and decide nothing, agree to 1e-12."""
    assert type(found) is type(expected), where
    if isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=1e-12 if "logprob" in where else 1e-5, abs_tol=1e-12), where
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key, value in expected.items():
            assert_equal(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_equal(found[index], value, f"{where}[{index}]")
    else:
        assert found == expected, where
