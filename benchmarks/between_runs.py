#!/usr/bin/env python3
"""What a token costs outside ONNX Runtime, and a new process until its first token: librubricrm beside Python.

    between_runs.py BUNDLE --command build/native/release/rubricrm-run [--turns 5] [--max-new-tokens 100] [--json FILE]

Both sides answer the same request in turns, each in a new process, greedily: once as a stream and once at once. A gap
is the time from the end of one run of the graph to the start of the next, in the answer at once: for librubricrm it is
timed by a library that lies between it and ONNX Runtime, for Python around `InferenceSession.run_with_iobinding`. A
process's first token is timed from before its start to the first byte of the stream; `decode_ms` is what the result of
the answer at once says. Figures are [median, least, most]; a gap's are over all steps of all turns, without the first
of each. Needs a C++ compiler. Linux alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
from rubricrm.runtime.whole_file import write_whole
from rubricrm_bench.machine_facts import machine_facts

REQUEST = "Explain to a ten-year-old how a rainbow forms. Use fewer than 100 words and end with a question."
SOURCES = Path(__file__).resolve().parents[1] / "sdk" / "cpp"
CLOCK = Path(__file__).with_name("clocked_onnxruntime.cpp")

PYTHON = """
import json, os, sys, time
import onnxruntime
gaps, end = [], None
run = onnxruntime.InferenceSession.run_with_iobinding
def timed_run(*arguments):
    global end
    start = time.perf_counter_ns()
    if end is not None:
        gaps.append(start - end)
    run(*arguments)
    end = time.perf_counter_ns()
onnxruntime.InferenceSession.run_with_iobinding = timed_run
from rubricrm import RubricModel
with RubricModel.open(sys.argv[1]) as model:
    options = {"max_new_tokens": int(sys.argv[3]), "temperature": 0.0}
    if sys.argv[4:5] == ["--json"]:
        print(json.dumps(model.generate(sys.argv[2], **options).to_dict()))
    else:
        for event in model.stream(sys.argv[2], **options):
            print(event.text, end="", flush=True)
open(os.environ["CLOCKED_GAPS"], "w").writelines(f"{gap}\\n" for gap in gaps)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--command", type=Path, required=True, help="the rubricrm-run to measure")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--max-new-tokens", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    with TemporaryDirectory() as directory:
        sides = {
            "librubricrm": native_side(options, Path(directory)),
            "python": [sys.executable, "-c", PYTHON, str(options.bundle), REQUEST, str(options.max_new_tokens)],
        }
        report = {"bundle": options.bundle.name, "machine": machine_facts()} | measure(sides, options.turns, directory)
    text = json.dumps(report, indent=2) + "\n"
    if options.json is not None:
        write_whole(options.json, text)
    sys.stdout.write(text)


def native_side(options: argparse.Namespace, directory: Path) -> list[str]:
    """Return the command of librubricrm, whose runtime is a clock around the one that Python uses."""
    clock = directory / "libclocked.so"
    build = ["c++", "-std=c++17", "-O2", "-shared", "-fPIC", f"-I{SOURCES}", str(CLOCK), "-o", str(clock), "-ldl"]
    subprocess.run(build, check=True)
    command = [str(options.command), "generate", "-m", str(options.bundle), "--onnxruntime", str(clock)]
    return [*command, "--max-new-tokens", str(options.max_new_tokens), REQUEST]


def measure(sides: dict[str, list[str]], num_turns: int, directory: str) -> dict[str, Any]:
    """Return figures per side. A first turn is not counted."""
    names = ("between_runs_us", "decode_ms", "first_token_ms")
    figures: dict[str, dict[str, list[float]]] = {side: {name: [] for name in names} for side in sides}
    gaps = Path(directory, "gaps")
    for turn in range(num_turns + 1):
        texts = set()
        for side, command in sides.items():
            first_token_ms, text = answer(command, gaps)
            result = json.loads(answer([*command, "--json"], gaps)[1])
            texts |= {text.decode().strip(), result["text"].strip()}
            if turn:
                figures[side]["first_token_ms"].append(first_token_ms)
                figures[side]["decode_ms"].append(result["timings_ms"]["decode"])
                figures[side]["between_runs_us"] += [int(line) / 1000 for line in gaps.read_text().split()[1:]]
        if len(texts) > 1:
            raise SystemExit(f"The sides did not write the same text: {texts}.")
    return {side: {name: spread(values) for name, values in found.items()} for side, found in figures.items()}


def answer(command: list[str], gaps: Path) -> tuple[float, bytes]:
    """Return milliseconds from the start of a process to its first byte, and all that it wrote."""
    runtime = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.1.*"))
    environment = os.environ | {"CLOCKED_ONNXRUNTIME": str(runtime), "CLOCKED_GAPS": str(gaps)}
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        text = process.stdout.read1(1)
        first_token_ms = (time.perf_counter() - start) * 1000
        text += process.stdout.read()
        errors = process.stderr.read().decode()
    if process.returncode not in (0, 3):  # 3 is a rubric that the limit of tokens cut
        raise SystemExit(f"{command[0]} ended with {process.returncode}: {errors}")
    return first_token_ms, text


def spread(values: list[float]) -> list[float]:
    """Return [median, least, most]."""
    return [round(value, 2) for value in (median(values), min(values), max(values))]


if __name__ == "__main__":
    main()
