#!/usr/bin/env python3
"""What one step costs by its rows: this project's kernels beside ONNX Runtime's, on the same bundle, in turns.

    step_rows.py BUNDLE [--rows 1,2,3,4,8] [--prompts 60,390] [--past 450] [--turns 9] [--threads 2]

The bundle is one for the CPU with both graphs. Steps of a few rows follow `--past` positions, as in decoding,
verification of drafts and batches; prompts of 100 tokens and more follow none, shorter ones follow 330, as own tokens
after a restored prefix. Both sides are open, and answer in turns with a pause between, since the threads of an idle
session spin for a while. The floor is the time in which the same bytes are read, at a rate measured before and after.
Prints one JSON object with medians and the range of the ratios of pairs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.session import Session
from rubricrm_bench.machine_facts import machine_facts
from rubricrm_bench.roofline import kv_bytes, measure_limits, weight_bytes

PAUSE_S = 0.1
PREFIX, CAPACITY, LONG = 330, 1024, 100
# So many steps are one turn, where a step takes milliseconds.
STEPS = 8


class Side:
    """One graph of a bundle, open, with a sequence in it."""

    def __init__(self, bundle: Bundle, file: str, threads: int, ids: list[int]) -> None:
        # The other graph stays: data in another layout are derived from its.
        graphs = tuple(sorted(bundle.manifest.graphs, key=lambda graph: graph.file != file))
        manifest = dataclasses.replace(bundle.manifest, graphs=graphs)
        started = time.perf_counter()
        self.session = Session(dataclasses.replace(bundle, manifest=manifest), threads=threads, max_rows=512)
        self.open_s = time.perf_counter() - started
        self.slot = self.session.new_slot(CAPACITY)
        for start in range(0, CAPACITY, 512):
            self.session.run(self.slot, ids[start : start + 512])

    def step(self, ids: list[int], past: int, rows: int, steps: int) -> float:
        """Return the seconds of a step of these ids after so many positions."""
        for _ in range(2):  # the first of them wakes the threads
            self.slot.cache.rewind(past)
            self.session.run(self.slot, ids, rows)
        started = time.perf_counter()
        for _ in range(steps):
            self.slot.cache.rewind(past)
            self.session.run(self.slot, ids, rows)
        return (time.perf_counter() - started) / steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rows", default="1,2,3,4,8")
    parser.add_argument("--prompts", default="60,390")
    parser.add_argument("--past", type=int, default=450)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=usable_cores())
    options = parser.parse_args()
    bundle = Bundle.open(options.bundle)
    vocabulary = bundle.manifest.tokenizer.num_tokens
    ids = np.random.default_rng(5).integers(vocabulary // 10, vocabulary // 2, CAPACITY).tolist()
    shared, step = (next(g.file for g in bundle.manifest.graphs if g.kv_update == word) for word in ("shared", "slots"))
    limits = measure_limits(weight_bytes(bundle), options.threads)
    sides = {"ours": Side(bundle, step, options.threads, ids), "runtime": Side(bundle, shared, options.threads, ids)}
    counts = [(int(n), options.past, int(n), STEPS) for n in options.rows.split(",")]
    counts += [(int(n), 0 if int(n) >= LONG else PREFIX, 1, 1) for n in options.prompts.split(",")]
    found = [measure(sides, ids, *count, turns=options.turns) for count in counts]
    limits = limits.best(measure_limits(weight_bytes(bundle), options.threads))
    for row in found:
        read = weight_bytes(bundle) + kv_bytes(bundle, row["past"])
        row["floor_ms"] = round(1e3 * read / limits.read_bytes_per_s, 2)
    kernels = sides["ours"].session.kernels
    report = {
        "model": bundle.manifest.model.name,
        "layers": bundle.manifest.model.num_layers,
        "manifest_sha256": bundle.manifest_sha256,
        "threads": options.threads,
        "machine": machine_facts(),
        "instruction_set": kernels.instruction_set if kernels else None,
        "read_gb_per_s": round(limits.read_bytes_per_s / 1e9, 1),
        "open_ms": {name: round(1e3 * side.open_s) for name, side in sides.items()},
        "steps": found,
    }
    print(json.dumps(report, indent=2))


def measure(
    sides: dict[str, Side], ids: list[int], count: int, past: int, rows: int, steps: int, turns: int
) -> dict[str, Any]:
    """Run both sides in turns, and return the medians and the ratios of pairs."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns):
        for name in sides if turn % 2 == 0 else reversed(sides):
            time.sleep(PAUSE_S)
            times[name].append(1e3 * sides[name].step(ids[:count], past, rows, steps))
    ratios = sorted(theirs / ours for ours, theirs in zip(times["ours"], times["runtime"], strict=True))
    medians = {f"{name}_ms": round(median(values), 2) for name, values in times.items()}
    return (
        {"tokens": count, "past": past}
        | medians
        | {"ratio": [round(r, 2) for r in (median(ratios), *ratios[:: len(ratios) - 1])]}
    )


if __name__ == "__main__":
    main()
