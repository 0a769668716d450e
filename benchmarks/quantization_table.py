#!/usr/bin/env python3
"""Export a checkpoint by every recipe and KV type for the CPU, and keep what each of them lost.

    quantization_table.py CHECKPOINT --name NAME [--eval-text FILE] [--prompt-template FILE] [--kv TYPE ...]

Each row is one run of `rubricrm export onnx` in a process of its own, with its command: its wall time, calibration and
the measurement of the loss included, and its peak resident memory (weights that were mapped count). Rows are kept in
benchmarks/results/quantization-NAME.json as they are measured; a row that is there is not measured again. `measured.py`
writes the documents' tables from them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from quantization_rows import RECIPES, TENSORRT, described, results_path
from rubricrm.runtime.whole_file import write_whole

KV_CACHES = ("model", "int8", "int8-tensor")


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--eval-text", type=Path)
    parser.add_argument("--prompt-template", type=Path)
    parser.add_argument("--kv", choices=KV_CACHES, action="append", help="these KV caches alone; may be given again")
    options = parser.parse_args()

    path = results_path(options.name)
    rows = json.loads(path.read_text("utf-8")) if path.exists() else []
    done = {row["command"] for row in rows}
    files = {"--eval-text": options.eval_text, "--prompt-template": options.prompt_template}
    given = {option: file for option, file in files.items() if file is not None}
    wanted = [f"{recipe} --kv {kv}" for kv in options.kv or KV_CACHES for recipe in RECIPES]
    for words in [*wanted, *(TENSORRT if options.kv is None else ())]:
        named = [word for option, file in given.items() for word in (option, file.name)]
        command = " ".join(["rubricrm export onnx", options.name, "-o BUNDLE", words.strip(), *named, "--no-rubrics"])
        if command in done or words.strip() == "--kv model":  # nothing is quantized
            continue
        paths = [word for option, file in given.items() for word in (option, str(file))]
        figures = measure(options.checkpoint, [*words.split(), *paths])
        if figures is None:  # the export said why; blocks, for one, do not fit every model
            continue
        rows.append(described(command) | figures)
        print(json.dumps(rows[-1]), flush=True)
        write_whole(path, json.dumps(rows, indent=2) + "\n")


def measure(checkpoint: Path, words: list[str]) -> dict[str, Any] | None:
    """Export once, whatever is lost, and return the figures; None where the export fails."""
    with tempfile.TemporaryDirectory() as directory:
        command = ["export", "onnx", str(checkpoint), "-o", f"{directory}/bundle", *words]
        command += ["--no-rubrics", "--json", "--max-kl", "none"]
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "rubricrm", *command], stdout=subprocess.PIPE)
        assert process.stdout is not None
        report = json.loads(process.stdout.read() or "{}")
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            return None
        return {
            "num_bytes": report["num_bytes"],
            **report["quality"],
            "export_s": round(time.perf_counter() - started, 1),
            "peak_bytes": usage.ru_maxrss * 1024,
        }


if __name__ == "__main__":
    main()
