"""The SDK and its kernels on ARM, under emulation: the demo model writes the rubric that it writes on this machine."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from rubricrm import RubricModel

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "aarch64-python" / "python"
LIBRARY = ROOT / "build" / "native" / "aarch64" / "librubricrm_kernels.so"
REQUEST = "Write a haiku about rain. Do not use the word water."

pytestmark = [
    pytest.mark.aarch64,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs an emulated Python: tests/aarch64/python.sh"),
    pytest.mark.skipif(not LIBRARY.exists(), reason="needs the kernels for ARM: make native-aarch64"),
]

# The machine, the rubric, and whether the library was loaded.
ANSWER = """
import json, platform, sys
from pathlib import Path
from rubricrm import RubricModel

bundle, request, library = sys.argv[1:]
with RubricModel.open(bundle) as model:
    text = model.generate(request).text
print(json.dumps([platform.machine(), text, library in Path("/proc/self/maps").read_text()]))
"""


@pytest.fixture(scope="module")
def expected(bundle: Path) -> str:
    with RubricModel.open(bundle) as model:
        return model.generate(REQUEST).text


@pytest.mark.parametrize("kernels", ["neon_i8mm", "neon_dotprod"])
def test_the_demo_model_answers_as_here(kernels: str, bundle: Path, expected: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    env = {"RUBRICRM_KERNELS": kernels, "RUBRICRM_KERNELS_LIBRARY": str(LIBRARY), "RUBRICRM_CACHE": str(tmp_path)}
    done = subprocess.run(
        [str(PYTHON), "-c", ANSWER, str(bundle), REQUEST, LIBRARY.name],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    assert json.loads(done.stdout) == ["aarch64", expected, True]
