"""The demo model with packed weights, whose products are this project's: in floats they would be the runtime's own."""

import subprocess
import sys
from pathlib import Path

import pytest
from rubricrm import Bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", params=["int4 --block-size 32", "int8"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "bundle"
    command = [sys.executable, "-m", "rubricrm", "export", "onnx", "models/demo/checkpoint", "-o", str(path)]
    weights = ["--weights", *str(request.param).split(), "--max-kl", "none"]
    subprocess.run([*command, *weights], cwd=ROOT, check=True, capture_output=True)
    assert Bundle.open(path).manifest.graphs[0].layout == "packed"
    return path
