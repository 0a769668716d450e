#!/usr/bin/env python3
"""What a KV cache of float16 alone loses: bundles beside the same bundles with a cache of float32.

    kv_loss.py CHECKPOINT --name NAME [--text FILE ...] [--prompt-template FILE] [--weights TYPE ...]

For each type of weights, two runs of `rubricrm export onnx` (`--kv float16`, `--kv model`) and, on the built-in text
and on each file, `rubricrm eval` of the one with the other as reference. Quantized products round their inputs, and
there any other order of a sum gives another distribution, better or worse. So for quantized weights the loss is what
both bundles are from the checkpoint, and how far rounding alone moves a model is measured too: by the bundle with the
cache of float32 on ONNX Runtime's kernels beside ours. Rows are kept in benchmarks/results/kv-float16.json with their
commands; those of the same model and weights are replaced. `measured.py` writes the documents' table from them. It
needs this project's kernels: no others read such a cache.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from quantization_rows import MODELS, RESULTS
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.conversion import convert_bundle
from rubricrm.runtime.manifest import FLOAT_WEIGHTS, STANDARD_LAYOUT
from rubricrm.runtime.published_directory import write_manifest
from rubricrm.runtime.whole_file import write_whole

RESULT = RESULTS / "kv-float16.json"
WEIGHTS = ("bf16", "int8", "int4")
CACHES = {"float16": "float16", "float32": "model"}  # element type -> what `--kv` calls it for the target cpu
HEADER = (
    "| model | weights | text, tokens | KL, float16 to float32 | top-1 % | same rubrics "
    "| KL to the checkpoint, float16 | float32 | KL of other kernels |\n"
    "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)
COLUMNS = 9
KEPT = ("num_tokens", "kl", "kl_stderr", "top1_agreement", "perplexity", "reference_perplexity", "rubrics")


def main() -> None:
    """Measure a model and keep its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--text", type=Path, action="append", default=[])
    parser.add_argument("--prompt-template", type=Path)
    parser.add_argument("--weights", choices=WEIGHTS, action="append", help="these alone; may be given again")
    options = parser.parse_args()
    rows = []
    for weights in options.weights or WEIGHTS:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            export(options.checkpoint, weights, options.prompt_template, directory)
            for text in (None, *options.text):
                row = described(options.name, weights, text) | distance(directory, text)
                if weights not in FLOAT_WEIGHTS:
                    row |= losses(directory, options.checkpoint, text)
                rows.append(row)
                print(json.dumps(row), flush=True)
    measured = {(row["model"], row["weights"]) for row in rows}
    kept = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else []
    rows += [row for row in kept if (row["model"], row["weights"]) not in measured]
    rows.sort(key=lambda row: (MODELS.index(row["model"]), WEIGHTS.index(row["weights"])))
    write_whole(RESULT, json.dumps(rows, indent=2) + "\n")


def export(checkpoint: Path, weights: str, template: Path | None, directory: Path) -> None:
    """Write both bundles, and a third one with the model.onnx of the second alone."""
    words = ["--weights", weights, "--max-kl", "none", "--no-rubrics"]
    words += [] if template is None else ["--prompt-template", str(template)]
    for kind, kv in CACHES.items():
        run("export", "onnx", str(checkpoint), "-o", f"{directory}/{kind}", "--kv", kv, *words)
    whole = Bundle.open(directory / "float32")
    if not whole.manifest.has_data(whole.manifest.graphs[-1]):
        whole = convert_bundle(whole, STANDARD_LAYOUT, directory / "standard")
    manifest = replace(whole.manifest, graphs=whole.manifest.graphs[-1:])
    shutil.copytree(whole.path, directory / "runtime")
    write_manifest(directory / "runtime", manifest)


def described(name: str, weights: str, text: Path | None) -> dict[str, Any]:
    """Return what a row is of."""
    exported = f"rubricrm export onnx {name} --weights {weights}"
    return {
        "model": name,
        "weights": weights,
        "bundles": [f"{exported} -o {kind} --kv {kv}" for kind, kv in CACHES.items()],
        "command": " ".join(["rubricrm eval float16 --reference float32", *(["--text", text.name] if text else [])]),
    }


def distance(directory: Path, text: Path | None) -> dict[str, Any]:
    """Return how far the caches are apart on a text; None: the built-in one, where rubrics are compared too."""
    report = compare(directory / "float16", directory / "float32", text, rubrics=text is None)
    return {"text": report["text"], **{key: report[key] for key in KEPT}}


def losses(directory: Path, checkpoint: Path, text: Path | None) -> dict[str, Any]:
    """Return how far both bundles are from the checkpoint, and how far other kernels move the one of float32."""
    return {
        "kl_to_checkpoint": {kind: compare(directory / kind, checkpoint, text)["kl"] for kind in CACHES},
        "kl_of_other_kernels": compare(directory / "runtime", directory / "float32", text)["kl"],
    }


def compare(bundle: Path, reference: Path, text: Path | None, *, rubrics: bool = False) -> dict[str, Any]:
    """Return the report of `rubricrm eval`."""
    words = [*(["--text", str(text)] if text else []), *([] if rubrics else ["--no-rubrics"])]
    return run("eval", str(bundle), "--reference", str(reference), *words)


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    return "\n".join([HEADER, *map(_line, rows)])


def _line(row: Mapping[str, Any]) -> str:
    rubrics = row["rubrics"]
    has_losses = "kl_to_checkpoint" in row
    lost = [*row["kl_to_checkpoint"].values(), row["kl_of_other_kernels"]] if has_losses else []
    cells = [
        row["model"],
        row["weights"],
        f"{row['text']}, {row['num_tokens']:,}",
        f"{row['kl']:.1e}",
        f"{100 * row['top1_agreement']:.2f}",
        "" if rubrics is None else f"{rubrics['identical']:.0%} of {rubrics['num_requests']}",
        *(f"{value:.6f}" for value in lost),
    ]
    return f"| {' | '.join([*cells, *[''] * (COLUMNS - len(cells))])} |"


def run(*words: str) -> dict[str, Any]:
    """Run `rubricrm` and return what it prints as JSON."""
    done = subprocess.run([sys.executable, "-m", "rubricrm", *words, "--json"], stdout=subprocess.PIPE, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    main()
