"""The short form of `make soak`: nobody is left waiting, whatever comes together."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("all_cores")

SOAK = Path(__file__).parents[1] / "references" / "soak.py"
REASONS = {"stop", "length", "cancelled", "timeout", "repetition", "dropped", "task cancelled", "wait_for"}
ERRORS = {"REQUEST_INVALID", "PROMPT_TOO_LONG", "ENGINE_BUSY"}


def soak(bundle: Path, *options: str) -> dict[str, Any]:
    """Run it; return what it prints."""
    done = subprocess.run(
        [sys.executable, SOAK, bundle, *options], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode == 3:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found["ends"]) <= REASONS | ERRORS
    return found


def test_1200_requests_from_8_threads_and_2_event_loops_all_end_and_memory_stays_flat(tiny_bundle: Path) -> None:
    found = soak(tiny_bundle, "--requests", "1200", "--threads", "8", "--loops", "2")
    assert sum(found["ends"].values()) == 1200
    often = {"length", "cancelled", "timeout", "dropped", "task cancelled", "wait_for"}
    assert often | {"REQUEST_INVALID", "PROMPT_TOO_LONG"} <= set(found["ends"])
    settled, last = found["resident"][6], found["resident"][-1]
    assert last <= 1.03 * settled, found["resident"]


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_half_a_core_is_enough_and_no_thread_spins_there(tiny_bundle: Path) -> None:
    found = soak(tiny_bundle, "--requests", "300", "--quota", "0.5")
    assert sum(found["ends"].values()) == 300
    assert (found["quota"], found["spinning"]) == (0.5, False)
    assert found["cores_used"] < 0.6
