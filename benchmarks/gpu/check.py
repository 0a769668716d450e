#!/usr/bin/env python3
"""What only a GPU can check: `make gpu` on a machine with one, a rehearsal on the CPU provider elsewhere.

    check.py OUT [--device cuda|cpu] [--shape 4b|tiny] [--minutes 9] [--jobs N]

For each recipe (float16, INT4, FP8 weights, each with each type of KV cache) these are done on the graph of one
sequence a run, model.onnx, every step in a process of its own, so that a crash costs one row. Exports and comparisons
run `jobs` at a time; what is timed runs alone, after them:

1. The demo model is exported and compared with a float32 bundle on the CPU: KL of the next token, tokens and rubrics.
   The loss must be the one that the export measured on its CPU twin.
2. A checkpoint of Qwen3-4B's shape with random weights is exported and measured by `rubricrm bench`: latency per
   token, beside the time that reading weights and keys and values takes at the rate of the device's memory.
3. For some recipes the graph of steps of many sequences, model.step.onnx: the demo model's answers, alone and
   together, beside those on model.onnx; and the speed of up to 32 sequences of the large shape on both
   (`many_sequences.py`). In a rehearsal it is the CPU's, of this project's kernels.

OUT gets `gpu-CARD.json` and `gpu-CARD.md`, to be committed in benchmarks/results, and the log of every command. No
network is used. Rows for which no time was left are listed as such.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gpu_recipes import RECIPES, Recipe
from gpu_table import to_markdown
from random_checkpoint import SHAPES, write_checkpoint

HERE = Path(__file__).resolve().parent
GRAPH, STEP_GRAPH = "model.onnx", "model.step.onnx"
# In a checkout; beside this file where `pack.py` has packed both.
DEMO_PLACES = (HERE.parents[1] / "models/demo/checkpoint", HERE / "checkpoint")
PACKAGES = ("rubricrm", "onnxruntime-gpu", "onnxruntime", "numpy", "onnx")
# 600 tokens: enough for scales of the KV cache (512), short enough for a streamed float model of 4B parameters.
SENTENCE = "The response must state the date, name the city and end with a question. It should be short and vivid. "
TEXT = SENTENCE * 24
PROMPT_TOKENS, NEW_TOKENS = 390, 200
# Of the graphs of steps: new tokens of each sequence, sequences measured on the other graph, and what one command may
# take, so that one that hangs leaves time for the rest.
NEW_TOGETHER, ONE_A_RUN, STEPS_LIMIT_S = 64, (1, 8), 60.0


class CommandError(Exception):
    """A command ended badly; the text is its last line."""


@dataclass
class Check:
    """The run: where it writes, what it runs on, and how much time is left."""

    out: Path
    device: str
    shape: str
    deadline: float
    jobs: int = 1
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """Where checkpoints and bundles lie until the run ends."""
        return self.out / "work"

    def bundle(self, kind: str, recipe: Recipe) -> Path:
        """Where the bundle of a recipe lies, of the demo model or the large shape."""
        return self.work / f"{kind}-{file_name(recipe.name)}"

    def run(self, name: str, *words: str, limit: float | None = None) -> str:
        """Run `rubricrm WORDS`, keep its log, and return what it printed; as `run_program`."""
        return self.run_program(name, ["-m", "rubricrm", *words], limit)

    def run_program(self, name: str, words: Sequence[str], limit: float | None = None) -> str:
        """Run `python WORDS`, keep its log, and return what it printed.

        Raises:
            CommandError: It failed, or the time is up: all of it, or `limit` seconds.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise CommandError("not run: the time is up")
        left = min(left, limit or left)
        log = self.out / f"{file_name(name)}.log"
        try:
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=left)
        except subprocess.TimeoutExpired as error:
            raise CommandError("stopped: the time is up") from error
        log.write_text(f"$ python {' '.join(words)}\n{done.stdout}\n{done.stderr}", "utf-8")
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"ended with {done.returncode}"]
            raise CommandError(last[0])
        return done.stdout

    def export(
        self, name: str, recipe: Recipe, checkpoint: Path, bundle: Path, eval_text: str = "text.txt"
    ) -> dict[str, Any]:
        """Export a checkpoint for the device and return the command's report."""
        words = ["export", "onnx", str(checkpoint), "-o", str(bundle), "--target", self.device]
        words += [*recipe.options, "--json"]
        if recipe.is_quantized:
            words += ["--max-kl", "none", "--no-rubrics", "--eval-text", str(self.work / eval_text)]
        if recipe.is_calibrated:
            words += ["--calibration", str(self.work / "text.txt")]
        report: dict[str, Any] = json.loads(self.run(f"export {name}", *words))
        put_first(bundle, GRAPH)
        return report

    def many(self, name: str, bundle: Path, *words: str) -> dict[str, Any]:
        """Return what `many_sequences.py` reports of a bundle."""
        command = [str(HERE / "many_sequences.py"), str(bundle), "--device", self.device, *words]
        report: dict[str, Any] = json.loads(self.run_program(name, command, STEPS_LIMIT_S))
        return report


def put_first(bundle: Path, file: str) -> None:
    """Make a graph of a bundle the one that runs."""
    path = bundle / "rubricrm.json"
    document = json.loads(path.read_text("utf-8"))
    document["graphs"].sort(key=lambda graph: graph["file"] != file)
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def compare(check: Check, recipe: Recipe, reference: Path, checkpoint: Path) -> dict[str, Any]:
    """Return how the demo model's answers on the device differ from those of a float32 bundle on the CPU."""
    bundle = check.bundle("demo", recipe)
    exported = check.export(f"demo {recipe.name}", recipe, checkpoint, bundle)
    words = ("eval", str(bundle), "--reference", str(reference), "--device", check.device, "--json")
    found = json.loads(check.run(f"eval {recipe.name}", *words))
    names = ("kl", "kl_stderr", "top1_agreement", "num_tokens", "rubric_agreement", "rubrics")
    return {"exported_quality": exported.get("quality"), **{name: found[name] for name in names}}


def compare_steps(check: Check, recipe: Recipe, reference: Path) -> dict[str, Any]:
    """Return how the answers of the bundle's graph of steps differ from the reference's, and from model.onnx's."""
    bundle = check.bundle("demo", recipe)
    words = ("--graph", STEP_GRAPH, "--against", GRAPH, "--new", str(NEW_TOGETHER))
    many = attempt(check.many, f"answers {recipe.name}", bundle, *words)
    put_first(bundle, STEP_GRAPH)
    command = ("eval", str(bundle), "--reference", str(reference), "--device", check.device, "--json")
    found = json.loads(check.run(f"eval steps {recipe.name}", *command, limit=STEPS_LIMIT_S))
    names = ("kl", "kl_stderr", "top1_agreement", "rubric_agreement")
    return {"many": many, **{name: found[name] for name in names}}


def answer(check: Check, recipe: Recipe, reference: Path, checkpoint: Path) -> dict[str, Any]:
    """Return what is compared on the demo model: `demo`, and `steps` where the recipe has a graph of them."""
    found = {"demo": attempt(compare, check, recipe, reference, checkpoint)}
    if recipe.has_steps:
        found["steps"] = attempt(compare_steps, check, recipe, reference)
    shutil.rmtree(check.bundle("demo", recipe), ignore_errors=True)
    return found


def export_large(check: Check, recipe: Recipe, checkpoint: Path) -> dict[str, Any]:
    """Export the large shape and return its size, and how long that took beside `jobs - 1` others."""
    bundle = check.bundle("large", recipe)
    started = time.monotonic()
    report = check.export(f"large {recipe.name}", recipe, checkpoint, bundle, eval_text="sentence.txt")
    return {"export_s": time.monotonic() - started, "num_bytes": report["num_bytes"]}


def measure(check: Check, recipe: Recipe, exported: dict[str, Any]) -> dict[str, Any]:
    """Return the latency of the large shape, as `rubricrm bench` reports it, beside what its export took."""
    if "error" in exported:
        return exported
    bundle = check.bundle("large", recipe)
    shapes = ("--prompt-tokens", str(PROMPT_TOKENS), "--new-tokens", str(NEW_TOKENS), "--no-rubrics")
    counts = ("--warmup", "1", "--repeat", "3", "--openings", "1", "--device", check.device, "--json", "-")
    found = json.loads(check.run(f"bench {recipe.name}", "bench", str(bundle), *shapes, *counts))
    row = {key: value for key, value in found["rows"][0].items() if key != "samples"}
    parts = {key: found[key] for key in ("bundle", "answers", "load_ms", "peak_rss_bytes", "roofline")}
    return {**exported, **parts, "row": row}


def measure_many(check: Check, recipe: Recipe) -> dict[str, Any]:
    """Return the speed of several sequences of the large shape on each graph: where one runs alone, of fewer."""
    bundle, found = check.bundle("large", recipe), {}
    for graph, counts in ((STEP_GRAPH, recipe.together), (GRAPH, ONE_A_RUN)):
        words = ("--graph", graph, "--counts", *map(str, counts), "--new", str(NEW_TOGETHER))
        name = f"many {recipe.name} {graph}"
        found[graph] = attempt(check.many, name, bundle, *words)
    return found


def run_all(check: Check) -> None:
    """Fill the rows: answers of every recipe first, then the large shape in the order of `RECIPES`."""
    demo = next(place for place in DEMO_PLACES if place.is_dir())
    check.work.mkdir(parents=True, exist_ok=True)
    (check.work / "text.txt").write_text(TEXT, "utf-8")
    (check.work / "sentence.txt").write_text(SENTENCE, "utf-8")
    reference = check.work / "reference"
    recipes = [recipe for recipe in RECIPES if recipe.is_on_cpu or check.device != "cpu"]
    check.rows += [{"name": recipe.name, "options": " ".join(recipe.options)} for recipe in recipes]
    large = [(recipe, row) for recipe, row in zip(recipes, check.rows, strict=True) if recipe.is_large]
    with ThreadPoolExecutor(
        check.jobs, initializer=_take_cores, initargs=(iter(range(check.jobs)), check.jobs)
    ) as pool:
        checkpoint = pool.submit(write_large_checkpoint, check, demo)
        check.run("export reference", "export", "onnx", str(demo), "-o", str(reference), "--weights", "fp32")
        answers = [pool.submit(answer, check, recipe, reference, demo) for recipe in recipes]
        exports = [pool.submit(attempt, export_large, check, recipe, checkpoint.result()) for recipe, _ in large]
        for row, found in zip(check.rows, answers, strict=True):
            row.update(found.result())
            say(f"{row['name']}: {summary(row['demo'])}")
            if "steps" in row:
                say(f"{row['name']}, steps: {summary(row['steps'])}")
    for (recipe, row), exported in zip(large, exports, strict=True):
        row["large"] = attempt(measure, check, recipe, exported.result())
        say(f"{recipe.name}: {summary(row['large'])}")
        if recipe.together:
            row["many"] = measure_many(check, recipe)
            say(f"{recipe.name}, steps: {summary(row['many'][STEP_GRAPH])}")
        shutil.rmtree(check.bundle("large", recipe), ignore_errors=True)


def _take_cores(places: Iterator[int], jobs: int) -> None:
    """Keep what this thread starts to its share of the cores: programs that each use all of them are slow."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, set(cores[next(places) :: jobs]) or set(cores))


def write_large_checkpoint(check: Check, demo: Path) -> Path:
    """Write the checkpoint of random weights and return where it lies."""
    checkpoint = check.work / "large"
    started = time.monotonic()
    write_checkpoint(checkpoint, SHAPES[check.shape], demo)
    say(f"checkpoint of shape {check.shape}: {time.monotonic() - started:.0f} s")
    return checkpoint


def file_name(name: str) -> str:
    """Return the name of a recipe or command as it stands in file names."""
    return name.replace(", ", "-").replace(" ", "-")


def attempt(step: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what a step found, or its error: a row that fails does not end the run."""
    try:
        found = step(*arguments)
    except CommandError as error:
        return {"error": str(error)}
    return found


def summary(found: dict[str, Any]) -> str:
    """Return one line on a step, for whoever watches."""
    if "error" in found:
        return str(found["error"])
    if "rows" in found:
        rows = (f"{row['sequences']}: {row.get('error') or round(row['tokens_per_s'])}" for row in found["rows"])
        return f"tokens per second by sequences: {', '.join(rows)}"
    if "kl" in found:
        return f"KL {found['kl']:.2g} nats per token, top-1 {found['top1_agreement']:.1%}"
    share = found["row"]["roofline"]
    floor = f", {share['decode_share']:.0%} of the memory's rate" if share else ""
    return f"{found['row']['tpot_ms']['p50']:.2f} ms per token{floor}"


def card() -> dict[str, Any] | None:
    """Return name, driver, memory and clocks of the first GPU; None where there is none."""
    fields = ("name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.memory", "power.limit")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(fields, (part.strip() for part in done.stdout.splitlines()[0].split(",")), strict=True))


def versions() -> dict[str, str]:
    """Return the installed versions that a result belongs to."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def say(line: str) -> None:
    """Print at once: the log of a run that is cut must hold what was done."""
    print(line, flush=True)


def main() -> int:
    """Run the check and write its report, whatever happens in between."""
    parser = argparse.ArgumentParser(description="Check and measure on a GPU what no CPU can.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is a GPU")
    parser.add_argument("--shape", choices=tuple(SHAPES), help="default: 4b on a GPU, tiny in a rehearsal")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 3), help="exports at a time")
    options = parser.parse_args()
    gpu = card()
    device = options.device or ("cuda" if gpu else "cpu")
    shape = options.shape or ("4b" if device == "cuda" else "tiny")
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    check = Check(options.out, device, shape, started + 60 * options.minutes, options.jobs)
    try:
        run_all(check)
    finally:
        report = {
            "card": gpu,
            "device": device,
            "is_rehearsal": device == "cpu",
            "shape": {"name": shape, **asdict(SHAPES[shape])},
            "versions": versions(),
            "seconds": time.monotonic() - started,
            "rows": check.rows,
        }
        name = gpu["name"].lower().replace(" ", "-") if gpu and device == "cuda" else "rehearsal"
        path = options.out / f"gpu-{name}.json"
        path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        path.with_suffix(".md").write_text(to_markdown(report), "utf-8")
        say(f"{path}: {len(check.rows)} rows in {report['seconds']:.0f} s")
        shutil.rmtree(check.work, ignore_errors=True)
    failed = [row["name"] for row in check.rows if '"error": ' in json.dumps(row)]
    say(f"rows with an error: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
