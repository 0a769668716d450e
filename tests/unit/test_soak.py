"""The short form of `make soak`: nobody is left waiting, whatever comes together."""

import json
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[1] / "references" / "soak.py"


def test_1200_requests_from_8_threads_all_end_and_memory_stays_flat(tiny_bundle: Path) -> None:
    command = [sys.executable, SOAK, tiny_bundle, "1200", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert sum(found["ends"].values()) == 1200
    known = {"stop", "length", "cancelled", "timeout", "repetition", "dropped"}
    assert set(found["ends"]) <= known | {"REQUEST_INVALID", "PROMPT_TOO_LONG", "ENGINE_BUSY"}
    assert {"length", "cancelled", "timeout", "REQUEST_INVALID", "PROMPT_TOO_LONG"} <= set(found["ends"])
    settled, last = found["resident"][6], found["resident"][-1]
    assert last <= 1.03 * settled, found["resident"]
