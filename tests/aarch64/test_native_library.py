"""librubricrm on ARM, under emulation: the results of the demo model that the Python package gives on this machine."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rubricrm import RubricModel

ROOT = Path(__file__).parents[2]
SYSROOT = ROOT / "build" / "aarch64-sysroot"
PYTHON = ROOT / "build" / "aarch64-python" / "python"
BUILD = ROOT / "build" / "native" / "aarch64"
REQUEST = "Write a haiku about rain. Do not use the word water."
WAYS: tuple[dict[str, Any], ...] = (
    {"max_new_tokens": 60, "logprobs": 0},
    {"max_new_tokens": 40, "logprobs": 0, "temperature": 0.8, "seed": 7, "top_p": 0.95},
    {"max_new_tokens": 40, "logprobs": 0, "constrain": False},
)

pytestmark = [
    pytest.mark.aarch64,
    pytest.mark.skipif(not (SYSROOT / "emulate").exists(), reason="needs an ARM sysroot: make native-aarch64"),
    pytest.mark.skipif(not (BUILD / "rubricrm-run").exists(), reason="needs librubricrm for ARM: make native-aarch64"),
]
needs_python = pytest.mark.skipif(not PYTHON.exists(), reason="needs an emulated Python: tests/aarch64/python.sh")

# By the C API from an ARM Python, since the command prints no tokens.
GENERATE = """
import json, sys
import rubricrm_ctypes as native

library, bundle, onnxruntime, request, ways = sys.argv[1:]
model = native.Model(native.Library(library), bundle, onnxruntime=onnxruntime.encode(), threads=1)
print(json.dumps([json.loads(model.generate(request, **way)) for way in json.loads(ways)]))
"""


@pytest.fixture
def emulated(tmp_path: Path) -> Callable[..., str]:
    """Runs an ARM program with one set of kernels, and returns what it prints."""
    tmp_path.chmod(0o700)

    def run(kernels: str, *command: str | Path) -> str:
        env = {
            "RUBRICRM_KERNELS": kernels,
            "RUBRICRM_KERNELS_LIBRARY": str(BUILD / "librubricrm_kernels.so"),
            "RUBRICRM_ONNXRUNTIME": str(SYSROOT / "libonnxruntime.so"),
            "RUBRICRM_CACHE": str(tmp_path),
        }
        done = subprocess.run([*command], env=os.environ | env, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        return done.stdout

    return run


def portable(result: dict[str, Any]) -> dict[str, Any]:
    """A result without the machine's times and kernels, a seed that was drawn, and what depends on earlier requests."""
    kept = {name: value for name, value in result.items() if name not in ("timings_ms", "seed", "usage", "model")}
    return kept | {name: result["usage"][name] for name in ("prompt_tokens", "completion_tokens")}


def token_ids(result: dict[str, Any]) -> list[int]:
    return [entry["token_id"] for entry in result["logprobs"]]


@pytest.fixture(scope="module")
def model(bundle: Path) -> Iterator[RubricModel]:
    with RubricModel.open(bundle) as model:
        yield model


@pytest.mark.parametrize("kernels", ["neon_i8mm", "neon_dotprod"])
def test_the_command_prints_the_rubric(
    kernels: str, bundle: Path, model: RubricModel, emulated: Callable[..., str]
) -> None:
    options = ["--json", "--threads", "1", "--model", str(bundle)]
    found = json.loads(emulated(kernels, SYSROOT / "emulate", BUILD / "rubricrm-run", "generate", *options, REQUEST))
    expected = model.generate(REQUEST)
    assert portable(found) == portable(expected.to_dict())
    assert kernels in found["model"]["kernels"]


@needs_python
@pytest.mark.parametrize("kernels", ["neon_i8mm", "neon_dotprod"])
def test_the_library_gives_the_tokens(
    kernels: str, bundle: Path, model: RubricModel, emulated: Callable[..., str]
) -> None:
    examples = ROOT / "sdk" / "cpp" / "examples"
    script = f"import sys; sys.path.insert(0, {str(examples)!r})\n{GENERATE}"
    files = [BUILD / "librubricrm.so", bundle, SYSROOT / "libonnxruntime.so"]
    results = json.loads(emulated(kernels, PYTHON, "-c", script, *files, REQUEST, json.dumps(WAYS)))
    for found, way in zip(results, WAYS, strict=True):
        expected = model.generate(REQUEST, **way).to_dict()
        assert token_ids(found) == token_ids(expected)
        assert len(token_ids(found)) == found["usage"]["completion_tokens"]


# CTest leaves them out for ARM: its bundle has weights in floats, which cost an emulated processor a minute a rubric.
@pytest.mark.parametrize(
    "command",
    [
        ["tests/cpp/model_functions_test"],
        ["tests/cpp/model_threads_test", str(ROOT / "tests/cases/engine/int4")],
        ["sdk/cpp/examples/example_blocking", REQUEST],
        ["sdk/cpp/examples/example_streaming", REQUEST],
    ],
    ids=lambda command: Path(command[0]).name,
)
def test_the_programs_end_well(command: list[str], bundle: Path, emulated: Callable[..., str]) -> None:
    emulated("neon_i8mm", SYSROOT / "emulate", BUILD / command[0], bundle, *command[1:])
