#!/usr/bin/env python3
"""Export a checkpoint by every recipe and KV type for the CPU, and make a table of what each costs.

    quantization_table.py CHECKPOINT --name NAME [--eval-text FILE] [--prompt-template FILE] [--into DOCUMENT]

Each row is one run of `rubricrm export onnx` in a process of its own: its wall time, calibration and the measurement of
the loss included, and its peak resident memory (weights that were mapped count). Rows are kept in
benchmarks/results/quantization-NAME.json as they are measured; a row that is there is not measured again. With --into
the table replaces what lies between the two marks of NAME in a document.
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

from marked_table import insert
from rubricrm.runtime.whole_file import write_whole

RESULTS = Path(__file__).parent / "results"
RECIPES = {
    "INT8 block 32": "--weights int8",
    "INT8 block 32, head float": "--weights int8 --head model",
    "INT8 block 32, GPTQ": "--weights int8 --method gptq",
    "INT8 block 128": "--weights int8 --block-size 128",
    "INT8 per channel (checking)": "--weights int8 --block-size channel --head model",
    "INT8 W8A8, round to nearest": "--weights int8 --activations int8 --method rtn",
    "INT8 W8A8, SmoothQuant": "--weights int8 --activations int8 --method smoothquant",
    "FP8 block 128 (checking)": "--weights fp8",
    "FP8 per channel (checking)": "--weights fp8 --block-size channel",
    "FP8 W8A8 block 128 (checking)": "--weights fp8 --activations fp8",
    "INT4 block 32, round to nearest": "--weights int4 --block-size 32 --head model",
    "INT4 block 64, round to nearest": "--weights int4 --block-size 64 --head model",
    "INT4 block 64 symmetric, round to nearest": "--weights int4 --block-size 64 --symmetric --head model",
    "INT4 block 128, round to nearest": "--weights int4 --block-size 128 --head model",
    "INT4 block 64, AWQ": "--weights int4 --block-size 64 --method awq --head model",
    "INT4 block 128, AWQ": "--weights int4 --block-size 128 --method awq --head model",
    "INT4 block 32, GPTQ": "--weights int4 --block-size 32 --method gptq --head model",
    "INT4 block 64, GPTQ": "--weights int4 --block-size 64 --method gptq --head model",
    "INT4 block 128, GPTQ": "--weights int4 --block-size 128 --method gptq --head model",
    "INT4 block 128, GPTQ, head INT8": "--weights int4 --block-size 128 --method gptq --head int8",
    "INT4 block 128, GPTQ, head INT4": "--weights int4 --block-size 128 --method gptq --head int4",
}
KV_CACHES = ("model", "int8", "int8-tensor")
HEADER = (
    "| recipe | KV cache | bundle MB | KL | +- | top-1 % | perplexity | export s | peak MB |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def main() -> None:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--eval-text", type=Path)
    parser.add_argument("--prompt-template", type=Path)
    parser.add_argument("--kv", choices=KV_CACHES, action="append", help="these KV caches alone; may be given again")
    parser.add_argument("--into", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()

    path = RESULTS / f"quantization-{options.name}.json"
    rows = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for kv in options.kv or KV_CACHES:
        for recipe, words in RECIPES.items():
            key = f"{recipe} | {kv}"
            if key in rows:
                continue
            command = [*words.split(), "--kv", kv]
            for option in ("eval_text", "prompt_template"):
                if value := getattr(options, option):
                    command += [f"--{option.replace('_', '-')}", str(value)]
            rows[key] = measure(options.checkpoint, command)
            print(row(key, rows[key]), flush=True)
            write_whole(path, json.dumps(rows, indent=2) + "\n")
    if options.into:
        insert(options.into, options.name, table(rows))


def measure(checkpoint: Path, command: list[str]) -> dict[str, Any]:
    """Export once and return the figures."""
    with tempfile.TemporaryDirectory() as directory:
        words = ["export", "onnx", str(checkpoint), "-o", f"{directory}/bundle", "--no-rubrics", "--json", *command]
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "rubricrm", *words], stdout=subprocess.PIPE)
        assert process.stdout is not None
        report = json.loads(process.stdout.read() or "{}")
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"failed: rubricrm {' '.join(words)}")
        return {
            "num_bytes": report["num_bytes"],
            **report["quality"],
            "export_s": round(time.perf_counter() - started, 1),
            "peak_bytes": usage.ru_maxrss * 1024,
        }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the rows as a Markdown table, in the order of `RECIPES`."""
    keys = [f"{recipe} | {kv}" for recipe in RECIPES for kv in KV_CACHES if f"{recipe} | {kv}" in rows]
    return "\n".join([HEADER, *(row(key, rows[key]) for key in keys)])


def row(key: str, facts: dict[str, Any]) -> str:
    """Return one line of the table."""
    figures = [
        f"{facts['num_bytes'] / 1e6:.1f}",
        f"{facts['kl']:.4f}",
        f"{facts['kl_stderr']:.4f}",
        f"{100 * facts['top1_agreement']:.1f}",
        f"{facts['perplexity']:.3f}",
        f"{facts['export_s']:.0f}",
        f"{facts['peak_bytes'] / 1e6:.0f}",
    ]
    return f"| {key} | {' | '.join(figures)} |"


if __name__ == "__main__":
    main()
