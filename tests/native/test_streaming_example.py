"""The example streaming.cpp: Ctrl-C ends it while a long prompt is computed, before there is any text."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from both_sides import BUILD, model_options, needs_library
from rubricrm.text_model import DEMO_BUNDLE

pytestmark = [pytest.mark.native, needs_library]

EXAMPLE = BUILD / "sdk" / "cpp" / "examples" / "example_streaming"
LONG = "Explain how a rainbow forms. " * 60
ATTEMPTS = 5


def handles_interrupts(process: subprocess.Popen[str]) -> bool:
    """Whether a process has set a handler of SIGINT."""
    status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)


def interrupted() -> tuple[str, str, int]:
    """Output, errors and code of the example, interrupted as soon as it can be."""
    chosen = model_options()
    environment = os.environ | {"RUBRICRM_ONNXRUNTIME": chosen["onnxruntime"].decode()}
    if "kernels" in chosen:
        environment["RUBRICRM_KERNELS_LIBRARY"] = chosen["kernels"].decode()
    with subprocess.Popen(
        [EXAMPLE, DEMO_BUNDLE, LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        while process.poll() is None and not handles_interrupts(process):
            pass
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
        return output, errors, process.returncode


@pytest.mark.skipif(not EXAMPLE.is_file(), reason=f"no {EXAMPLE}: build the preset release")
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc")
def test_it_ends_before_there_is_any_text() -> None:
    # On a machine that is slow to send the signal, the text may have begun: then it is tried again.
    for _ in range(ATTEMPTS):
        output, errors, code = interrupted()
        if "RUNTIME_MISSING" in errors:
            pytest.skip(errors)
        assert code == 0
        if output.strip() == "":
            assert errors == "0 criteria, cancelled\n"
            return
    pytest.fail(f"{ATTEMPTS} times there was text before the signal was looked at")
