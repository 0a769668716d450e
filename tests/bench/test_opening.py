"""What opening costs: each figure is of a process that opened the bundle, and means what its name says."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from rubricrm.runtime.bundle import Bundle

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "opening.py"

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def test_figures_of_a_small_bundle(load_script: Callable[[str], ModuleType], tiny_bundle: Path, tmp_path: Path) -> None:
    kept = tmp_path / "opening.json"
    words = load_script("opening").request_of(Bundle.open(tiny_bundle), 215).count(" rain")
    command = [sys.executable, SCRIPT, tiny_bundle, "--prompt-tokens", "215", "--processes", "2", "--threads", "1"]
    done = subprocess.run([*command, "--json", kept], capture_output=True, text=True, check=True, env=os.environ)
    found = json.loads(kept.read_text("utf-8"))
    assert json.loads(done.stdout) == found
    assert words > 3
    assert (found["prompt_tokens"], found["cached_prompt_tokens"]) == (215, 128)
    assert [part["name"] for part in found["parts"]] == ["imports", "manifest", "session", "tokenizer", "prefix"]
    memory = [part["anonymous_mb"][0] for part in found["parts"]]
    assert memory == sorted(memory)
    whole = found["whole"]
    assert whole["first_token_ms"][1] > whole["open_ms"][1] + whole["prefill_ms"][1] > 0
    assert whole["beyond_prefill_ms"][1] >= whole["open_ms"][1]
    # Two processes share the libraries at least.
    assert max(found["two_processes_pss_mb"]) < whole["pss_mb"][2] < 1000


def test_a_length_that_no_request_gives_is_refused(load_script: Callable[[str], ModuleType], tiny_bundle: Path) -> None:
    with pytest.raises(SystemExit, match="no request gives a prompt of 217 tokens"):
        load_script("opening").request_of(Bundle.open(tiny_bundle), 217)
