"""The verdict of benchmarks/compare.py, on times that are known; and that it runs both sides."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "compare.py"


@pytest.fixture(scope="module")
def compare(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("compare")


def times(seed: int, factor: float = 1.0, spread: float = 0.05, pairs: int = 40) -> list[float]:
    noise = np.random.default_rng(seed).lognormal(0, spread, pairs)
    return [float(value) for value in 100 * factor * noise]


@pytest.mark.parametrize("seed", range(10))
def test_a_slowdown_of_a_tenth_is_found(compare: ModuleType, seed: int) -> None:
    found = compare.judge(times(seed), times(seed + 100, 1.1))
    assert found.verdict == "slower"
    assert found.ratio == pytest.approx(1.1, abs=0.04)
    assert compare.judge(times(seed, 1.1), times(seed + 100)).verdict == "faster"


def test_equal_sides_differ_as_seldom_as_the_interval_says(compare: ModuleType) -> None:
    verdicts = [compare.judge(times(seed), times(seed + 1000)).verdict for seed in range(100)]
    assert verdicts.count("no difference") >= 88


def test_outliers_of_one_side_do_not_decide(compare: ModuleType) -> None:
    new = times(1)
    new[:5] = [1000.0] * 5
    assert compare.judge(times(2), new).verdict == "no difference"


def test_both_sides_run(tiny_bundle: Path) -> None:
    command = [sys.executable, SCRIPT, tiny_bundle, tiny_bundle, "--pairs", "5", "--new-tokens", "4", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"first_token_ms", "token_ms", "whole_ms"}
    assert all(0 < verdict["low"] <= verdict["ratio"] <= verdict["high"] for verdict in found.values())


def test_what_is_neither_bundle_nor_commit() -> None:
    command = [sys.executable, SCRIPT, "nosuch", "nosuch"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "nosuch: is no bundle, no checkout and no commit" in done.stderr
