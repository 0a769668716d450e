#!/usr/bin/env python3
"""Steps of a graph of PagedAttention with CUDA graphs and without: what they compute, and how long they take.

    captured_steps.py BUNDLE [--device cuda] [--answers] [--counts 1 2 4 8 16 32] [--engine 1 8 32] [--seconds 60]

Prints one JSON object a line, each when it is known: a run that is cut keeps what it has. `--answers` compares logits
step by step, where sequences grow over the ends of blocks, and the answers to twelve requests, alone and together.
`--counts` times steps of one token for so many sequences, in turns with and without; `--engine` what comes of that in
whole answers.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from many_sequences import REQUESTS, Subject, answers, gap_at_difference, measure
from rubricrm.runtime import paged_execution, providers
from rubricrm.runtime.session import Session
from rubricrm.runtime.slot import Chunk, Slot

GRAPH = "model.step.onnx"
WARM_UP = 14  # steps, of which the ninth is captured
ROUNDS, STEPS = 4, 15
# Lengths before the first step: over the ends of the first and second block, where another graph begins.
LENGTHS = ((250,), (505,), (3, 250, 500), (250, 251, 252, 253, 254, 255, 256, 257), (500, 506, 508, 510, 511, 512))
NEW_ALIKE = 24
NEW_ANSWERED = 160


def say(part: str, **found: Any) -> None:
    """Print a row at once."""
    print(json.dumps({"part": part, **found}), flush=True)


@contextmanager
def captures(device: str, value: bool) -> Iterator[None]:
    """Let sessions that are opened meanwhile capture steps, or not."""
    kept = providers.DEVICES[device]
    providers.DEVICES[device] = replace(kept, captures=value)
    yield
    providers.DEVICES[device] = kept


def step(session: Session, slots: list[Slot], token: int) -> list[Any]:
    """Append a token to each slot."""
    return session.step([Chunk(slot, [token]) for slot in slots])


def graphs_of(slot: Slot) -> list[list[int]]:
    """Return the shapes that were captured for the slots beside this one."""
    memory = slot.arena.step_memory
    return sorted(list(shape) for shape in memory.graphs) if memory is not None else []


def compare_logits(with_graphs: Subject, without: Subject, lengths: tuple[int, ...]) -> dict[str, Any]:
    """Return how the logits of sequences differ that grow token by token."""
    rng = np.random.default_rng(sum(lengths))
    most = max(lengths) + 3 * NEW_ALIKE
    tokens = rng.integers(5, with_graphs.manifest.tokenizer.num_tokens, most).tolist()
    pair = [
        (subject.session, list(subject.session.new_slots(len(lengths), most))) for subject in (with_graphs, without)
    ]
    for session, slots in pair:
        for slot, length in zip(slots, lengths, strict=True):
            for start in range(0, length, session.max_rows):
                session.run(slot, tokens[start : min(length, start + session.max_rows)])
    differences, same = [], 0
    for number in range(NEW_ALIKE):
        found, expected = (np.stack([row[0] for row in step(*these, tokens[number])]) for these in pair)
        finite = np.isfinite(expected)
        same += bool(np.array_equal(found, expected))
        differences.append(float(np.abs(found[finite] - expected[finite]).max()))
    return {
        "lengths": lengths,
        "steps": NEW_ALIKE,
        "same_bits": same,
        "largest_difference": max(differences),
        "largest_logit": float(np.abs(expected[finite]).max()),
        "graphs": graphs_of(pair[0][1][0]),
    }


def compare_answers(with_graphs: Subject, without: Subject, count: int) -> dict[str, Any]:
    """Return how many answers are the same, so many at once, and the gap of two logits where they part."""
    prompts = [with_graphs.prompt.encode_request(request) for request in REQUESTS]
    expected = answers(without, prompts, NEW_ANSWERED, count)
    found = answers(with_graphs, prompts, NEW_ANSWERED, count)
    pairs = [trio for trio in zip(prompts, expected, found, strict=True) if trio[1] != trio[2]]
    gaps = [gap_at_difference(without, *trio) for trio in pairs]
    longest = max(map(len, prompts)) + NEW_ANSWERED
    return {"answers": len(prompts), "at_once": count, "longest": longest, "gaps_where_different": gaps}


def time_steps(pair: dict[str, Subject], count: int, past: int) -> dict[str, Any]:
    """Return the times of steps of so many sequences, in turns, and where the time goes with graphs."""
    slots = {name: list(subject.session.new_slots(count, past + WARM_UP + STEPS + 1)) for name, subject in pair.items()}
    first: dict[str, list[float]] = {name: [] for name in pair}
    times: dict[str, list[float]] = {name: [] for name in pair}
    for name, subject in pair.items():
        for slot in slots[name]:
            for start in range(0, past, subject.session.max_rows):
                subject.session.run(slot, [7] * min(past - start, subject.session.max_rows))
        run_steps(subject, slots[name], WARM_UP, first[name])
    reading: list[float] = []
    for _ in range(ROUNDS):
        for name, subject in pair.items():
            for slot in slots[name]:
                slot.rewind(past)
            with timed(paged_execution, "owned", reading if name == "with" else []):
                run_steps(subject, slots[name], STEPS, times[name])
    return {
        "sequences": count,
        "past": past,
        **{f"{name}_ms": summary(some) for name, some in times.items()},
        "capture_ms": 1e3 * max(first["with"]),
        "reading_logits_ms": summary(reading),
        "graphs": graphs_of(slots["with"][0]),
    }


def run_steps(subject: Subject, slots: list[Slot], steps: int, times: list[float]) -> None:
    """Run steps and note how long each took."""
    for _ in range(steps):
        started = time.perf_counter()
        step(subject.session, slots, 5)
        times.append(time.perf_counter() - started)


@contextmanager
def timed(module: Any, name: str, times: list[float]) -> Iterator[None]:
    """Note how long a function of a module takes, meanwhile."""
    function = getattr(module, name)

    def call(*arguments: Any) -> Any:
        started = time.perf_counter()
        found = function(*arguments)
        times.append(time.perf_counter() - started)
        return found

    setattr(module, name, call)
    yield
    setattr(module, name, function)


def summary(seconds: list[float]) -> dict[str, float]:
    """Return the median, the fastest and the slowest, in milliseconds."""
    return {"median": 1e3 * median(seconds), "least": 1e3 * min(seconds), "most": 1e3 * max(seconds)}


def time_copies(subject: Subject, rows: int) -> dict[str, Any]:
    """Return how long copying rows of logits to the host takes: to new memory, to used, and to pinned memory."""
    (slot,) = subject.session.new_slots(1, 256)
    memory, size = slot.arena.step_memory, 4 * rows * subject.manifest.model.vocab_size
    assert memory is not None
    place = memory.logits_address(rows)
    cuda, context, device = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_int()
    statuses = [cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0)]
    statuses += [cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), cuda.cuCtxSetCurrent(context)]
    used = np.ones(size, np.uint8)

    def copy(target: Any) -> None:
        status = cuda.cuMemcpyDtoH_v2(
            ctypes.c_void_p(target.ctypes.data), ctypes.c_uint64(place), ctypes.c_size_t(size)
        )
        statuses.append(status)

    def clock(function: Callable[[], None]) -> float:
        times = []
        for _ in range(10):
            started = time.perf_counter()
            function()
            times.append(time.perf_counter() - started)
        return 1e3 * median(times)

    found = {"new_ms": clock(lambda: copy(np.empty(size, np.uint8))), "used_ms": clock(lambda: copy(used))}
    pinned = np.ones(size, np.uint8)
    registered = cuda.cuMemHostRegister_v2(ctypes.c_void_p(pinned.ctypes.data), ctypes.c_size_t(size), 0)
    found["pinned_ms"] = clock(lambda: copy(pinned))
    statuses += [registered, cuda.cuMemHostUnregister(ctypes.c_void_p(pinned.ctypes.data))]
    return {"rows": rows, "bytes": size, **found, "statuses": sorted(set(statuses))}


def used_memory() -> str:
    """Return the device's memory in use, as its driver says."""
    command = ["nvidia-smi", "--query-gpu=name,memory.used", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout.strip()
    except OSError as error:
        return str(error)


def open_pair(path: Path, device: str) -> dict[str, Subject]:
    """Open a bundle twice."""
    pair = {}
    for name, value in (("with", True), ("without", False)):
        with captures(device, value):
            pair[name] = Subject(path, GRAPH, device)
    return pair


def attempt(
    deadline: float, part: str, function: Callable[..., dict[str, Any]], *arguments: Any, **labels: Any
) -> None:
    """Print what a function returns, or its error: a row that fails does not end the run."""
    if time.monotonic() > deadline:
        say(part, **labels, error="not run: the time is up")
        return
    started = time.monotonic()
    try:
        found = function(*arguments)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {str(error)[:600]}"}
    say(part, **labels, **found, seconds=round(time.monotonic() - started, 2))
    gc.collect()  # the memory of these slots, before the next ones take theirs


def run(pair: dict[str, Subject], options: argparse.Namespace, deadline: float) -> None:
    """Do what the options ask for."""
    both = pair["with"], pair["without"]
    if options.answers:
        for lengths in LENGTHS:
            attempt(deadline, "logits", compare_logits, *both, lengths)
        for count in (1, len(REQUESTS)):
            attempt(deadline, "answers", compare_answers, *both, count)
    for count in options.counts:
        attempt(deadline, "steps", time_steps, pair, count, options.past)
    for rows in (1, 32) if options.counts else ():
        attempt(deadline, "copies", time_copies, pair["without"], rows)
    for count in options.engine:
        for name, subject in pair.items():
            attempt(deadline, "engine", measure, subject, count, 64, graphs=name)


def main() -> None:
    """Compare and measure until the time is up."""
    parser = argparse.ArgumentParser(description="Steps with CUDA graphs and without.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--counts", type=int, nargs="*", default=[])
    parser.add_argument("--past", type=int, default=440)
    parser.add_argument("--engine", type=int, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    pair = open_pair(options.bundle, options.device)
    say("opened", bundle=options.bundle.name, memory=used_memory())
    run(pair, options, deadline)
    still = pair["with"].session._execution._captures  # type: ignore[attr-defined]
    say("closed", bundle=options.bundle.name, captures_still=still, memory=used_memory())


if __name__ == "__main__":
    main()
