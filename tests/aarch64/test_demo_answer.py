"""The SDK on ARM, under emulation: the demo model answers as it does on this machine."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "aarch64-python" / "python"
LIBRARY = ROOT / "build" / "native" / "aarch64" / "librubricrm_kernels.so"
REQUEST = "Write a haiku about rain. Do not use the word water."

pytestmark = [
    pytest.mark.aarch64,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs an emulated Python: tests/aarch64/python.sh"),
    pytest.mark.skipif(not LIBRARY.exists(), reason="needs the kernels for ARM: make native-aarch64"),
]

# A token takes a second under emulation.
ANSWER = """
import json, platform, sys
from pathlib import Path
from rubricrm import RubricModel

with RubricModel.demo() as model:
    result = model.generate(sys.argv[1], max_new_tokens=24)
print(json.dumps([platform.machine(), result.text, sys.argv[2] in Path("/proc/self/maps").read_text()]))
"""


@pytest.fixture(scope="module")
def expected() -> str:
    from rubricrm import RubricModel

    with RubricModel.demo() as model:
        return model.generate(REQUEST, max_new_tokens=24).text


@pytest.mark.parametrize("kernels", ["neon_i8mm", "neon_dotprod"])
def test_the_demo_model_answers_as_here(kernels: str, expected: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    env = {"RUBRICRM_KERNELS": kernels, "RUBRICRM_KERNELS_LIBRARY": str(LIBRARY), "RUBRICRM_CACHE": str(tmp_path)}
    done = subprocess.run(
        [str(PYTHON), "-c", ANSWER, REQUEST, LIBRARY.name],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    assert json.loads(done.stdout) == ["aarch64", expected, True]
