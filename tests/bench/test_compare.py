"""The verdict of benchmarks/compare.py, on times that are known; and that it runs both sides."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rubricrm.runtime.kernels import find_kernels

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "compare.py"


@pytest.fixture(scope="module")
def compare(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("compare")


def times(seed: int, factor: float = 1.0, spread: float = 0.05, of_process: float = 0.01) -> list[list[float]]:
    """Times of a side, [12 openings][4 pairs]; a process is faster or slower for as long as it lives."""
    rng = np.random.default_rng(seed)
    noise = rng.lognormal(0, of_process, (12, 1)) * rng.lognormal(0, spread, (12, 4))
    found: list[list[float]] = (100 * factor * noise).tolist()
    return found


def test_a_slowdown_of_a_tenth_is_found(compare: ModuleType) -> None:
    slower = [compare.judge(times(seed), times(seed + 100, 1.1)) for seed in range(60)]
    faster = [compare.judge(times(seed, 1.1), times(seed + 100)) for seed in range(60)]
    assert sum(found.verdict == "slower" for found in slower) >= 57
    assert sum(found.verdict == "faster" for found in faster) >= 57
    assert all(found.ratio == pytest.approx(1.1, abs=0.06) for found in slower)
    assert all(found.low <= found.ratio <= found.high for found in slower)


def test_equal_sides_differ_as_seldom_as_the_interval_says(compare: ModuleType) -> None:
    verdicts = [compare.judge(times(seed), times(seed + 1000)).verdict for seed in range(100)]
    assert verdicts.count("no difference") >= 88


def test_equal_sides_whose_processes_differ(compare: ModuleType) -> None:
    sides = [(times(seed, of_process=0.05), times(seed + 1000, of_process=0.05)) for seed in range(100)]
    verdicts = [compare.judge(*pair).verdict for pair in sides]
    assert verdicts.count("no difference") >= 88


def test_outliers_of_one_side_do_not_decide(compare: ModuleType) -> None:
    new = times(1)
    new[0] = [1000.0] * 4
    assert compare.judge(times(2), new).verdict == "no difference"


def test_both_sides_run(tiny_bundle: Path) -> None:
    command = [sys.executable, SCRIPT, tiny_bundle, tiny_bundle, "--openings", "2", "--pairs", "3"]
    command += ["--new-tokens", "4", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"first_token_ms", "token_ms", "whole_ms"}
    assert all(0 < verdict["low"] <= verdict["ratio"] <= verdict["high"] for verdict in found.values())


def test_a_side_runs_its_own_code(compare: ModuleType, tmp_path: Path) -> None:
    package = tmp_path / "sdk" / "python" / "rubricrm"
    package.mkdir(parents=True)
    # It says which kernels it was given by the first token's time.
    (package / "__init__.py").write_text(
        "import contextlib, os\n"
        "from types import SimpleNamespace as Made\n"
        "class RubricModel:\n"
        "    open = classmethod(lambda cls, bundle: contextlib.nullcontext(cls()))\n"
        "    def generate(self, request, max_new_tokens):\n"
        "        first = len(os.environ.get('RUBRICRM_KERNELS_LIBRARY', ''))\n"
        "        times, usage = Made(first_token=first, total=first + 8), Made(completion_tokens=max_new_tokens)\n"
        "        return Made(timings_ms=times, usage=usage)\n"
    )
    for kernels, first in ((Path("lib.so"), 6), (None, 0)):
        side = compare.Side(tmp_path, tmp_path, kernels, 5)
        assert side.ask(0) == {"first_token_ms": first, "token_ms": 2, "whole_ms": first + 8}
        side.close()


def test_kernels_are_those_of_the_checkout(compare: ModuleType, tmp_path: Path) -> None:
    assert compare.kernels_of(compare.ROOT, tmp_path) == find_kernels().library
    old = tmp_path / "old"
    old.mkdir()
    assert compare.kernels_of(old, tmp_path) is None
    (old / "CMakeLists.txt").write_text("no such command\n")
    with pytest.raises(SystemExit, match="its kernels cannot be built"):
        compare.kernels_of(old, tmp_path)


def test_what_is_neither_bundle_nor_commit() -> None:
    command = [sys.executable, SCRIPT, "nosuch", "nosuch"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "nosuch: is no bundle, no checkout and no commit" in done.stderr
