#!/usr/bin/env python3
"""Many sequences at once on one graph of a bundle: what they write, and how quickly. Prints one JSON object.

    many_sequences.py BUNDLE --graph FILE [--device cuda|cpu] [--against FILE] [--counts 1 2 4 8] [--new 64]

`--against` names a graph of the same weights. Twelve requests are then written one after another on it, and on
`--graph` one after another and all together: where tokens differ, the gap between the two best logits tells whether
that was a tie. `--counts` measures so many sequences at once: steps of the session, tokens per second through the
engine, each with its prompt's own part to compute, and a newcomer while the others decode.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rubricrm.errors import RubricrmError
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sequence import Sequence as Generation
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prefix import Prefix, compute_prefix
from rubricrm.runtime.prompt import Prompt, common_prefix
from rubricrm.runtime.session import Session
from rubricrm.runtime.slot import Chunk
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_bench.workload import without_stops

TOPICS = ("tides", "a speech", "sorting", "soup", "the moon", "a lease", "chess", "bees", "tax", "rain", "a will")
REQUESTS = ("Hi", *(f"Write three sentences about {topic}. " * (1 + n % 3) for n, topic in enumerate(TOPICS)))
OWN = 24  # tokens of a prompt that no other shares, as a short request has
STEPS = 20


class Subject:
    """One graph of a bundle, whose answers no token ends."""

    def __init__(self, path: Path, file: str, device: str) -> None:
        bundle = without_stops(Bundle.open(path))
        graphs = tuple(graph for graph in bundle.manifest.graphs if graph.file == file)
        bundle = replace(bundle, manifest=replace(bundle.manifest, graphs=graphs))
        self.manifest = bundle.manifest
        tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
        self.prompt = Prompt(bundle.manifest.prompt, bundle.manifest.chat, tokenizer)
        self.session = Session(bundle, device=device)
        self.prefix: Prefix = compute_prefix(self.session, self.prompt.fixed_prefix())
        self._random = np.random.default_rng(7)

    def engine(self, count: int) -> Engine:
        options = EngineOptions(max_concurrency=count, keep_prompts=False, draft=False)
        return Engine(self.session, self.manifest, self.prefix, options)

    def own_prompt(self) -> list[int]:
        """Return the fixed tokens and others, another prompt at each call."""
        own = self._random.integers(5, self.manifest.tokenizer.num_tokens, OWN)
        return [*self.prefix.token_ids, *own.tolist()]


class Asked:
    """A request on its way, and when its tokens came."""

    def __init__(self, engine: Engine, prompt_ids: list[int], new: int) -> None:
        options = GenerationOptions(max_new_tokens=new, stop_on_repetition=False)
        self.moments: list[float] = []
        self.sequence: Generation = engine.submit(prompt_ids, options)
        self.sequence.listen(self._note)

    def _note(self) -> None:
        while len(self.moments) < len(self.sequence.token_ids):
            self.moments.append(time.perf_counter())

    def tokens(self) -> list[int]:
        """Wait for the end and return what was written."""
        self.sequence.wait()
        self.sequence.raise_error()
        return self.sequence.token_ids


def compare(subject: Subject, other: Subject, new: int) -> dict[str, Any]:
    """Return how many answers of a graph, alone and together, are those of another graph, and the gaps where not."""
    prompts = [subject.prompt.encode_request(request) for request in REQUESTS]
    expected = answers(other, prompts, new, 1)
    gaps: dict[str, list[float]] = {}
    for name, count in (("alone", 1), ("together", len(prompts))):
        found = answers(subject, prompts, new, count)
        pairs = [trio for trio in zip(prompts, expected, found, strict=True) if trio[1] != trio[2]]
        gaps[name] = [gap_at_difference(other, *trio) for trio in pairs]
    return {"answers": len(prompts), "tokens": new, "gaps_where_different": gaps}


def answers(subject: Subject, prompts: Sequence[list[int]], new: int, count: int) -> list[list[int]]:
    """Return what follows each prompt, `count` of them at once."""
    engine = subject.engine(count)
    if count == 1:
        return [Asked(engine, prompt_ids, new).tokens() for prompt_ids in prompts]
    return [asked.tokens() for asked in [Asked(engine, prompt_ids, new) for prompt_ids in prompts]]


def gap_at_difference(subject: Subject, prompt_ids: list[int], expected: list[int], found: list[int]) -> float:
    """Return the logit of the token that was expected less that of the one that was found, where they part."""
    place = common_prefix(expected, found)
    ids = [*prompt_ids, *expected[:place]]
    slot, most = subject.session.new_slot(len(ids)), subject.session.max_rows
    for start in range(0, len(ids), most):
        logits = subject.session.run(slot, ids[start : start + most])[-1]
    return float(logits[expected[place]] - logits[found[place]])


def measure(subject: Subject, count: int, new: int) -> dict[str, Any]:
    """Return the speed of so many sequences, each with `new` tokens after its prompt."""
    engine = subject.engine(count)
    Asked(engine, subject.own_prompt(), 2).tokens()  # memory, and kernels that are chosen at their first run
    started = time.perf_counter()
    together = [Asked(engine, subject.own_prompt(), new) for _ in range(count)]
    for asked in together:
        asked.tokens()
    seconds = time.perf_counter() - started
    gaps = [gap for asked in together for gap in np.diff(asked.moments)]
    return {
        "sequences": count,
        "tokens_per_s": count * new / seconds,
        "gap_ms": 1e3 * median(gaps),
        "step_ms": 1e3 * bare_step(subject, count, new),
        "newcomer": newcomer(subject, engine, count, new) if count > 1 else None,
    }


def bare_step(subject: Subject, count: int, new: int) -> float:
    """Return the seconds of a step of one token for each of so many slots, in the middle of their answers."""
    past = len(subject.prefix.token_ids) + OWN + new // 2
    slots = subject.session.new_slots(count, past + 1)
    for slot in slots:
        slot.restore(subject.prefix.positions, len(subject.prefix.token_ids))
        ids = subject.own_prompt()[-OWN:] + [5] * (new // 2)
        subject.session.run(slot, ids)
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        subject.session.step([Chunk(slot, [5]) for slot in slots])
        times.append(time.perf_counter() - started)
        for slot in slots:
            slot.rewind(past)
    return median(times)


def newcomer(subject: Subject, engine: Engine, count: int, new: int) -> dict[str, float]:
    """Send one while the others decode, after one alone; milliseconds."""
    alone = Asked(engine, subject.own_prompt(), 2)
    alone.tokens()
    others = [Asked(engine, subject.own_prompt(), new) for _ in range(count - 1)]
    for asked in others:
        asked.sequence.wait(lambda asked=asked: len(asked.moments) >= new // 4)  # type: ignore[misc]
    last = Asked(engine, subject.own_prompt(), 2)
    for asked in [last, *others]:
        asked.tokens()
    gaps = [gap for asked in others for gap in np.diff(asked.moments)]
    return {
        "first_token_ms": 1e3 * (last.moments[0] - last.sequence.started),
        "first_token_alone_ms": 1e3 * (alone.moments[0] - alone.sequence.started),
        "longest_gap_ms": 1e3 * max(gaps),
    }


def attempts(subject: Subject, counts: Iterable[int], new: int) -> list[dict[str, Any]]:
    """Return a row for each count, or its error: more sequences may need more memory than there is."""
    rows: list[dict[str, Any]] = []
    for count in counts:
        try:
            rows.append(measure(subject, count, new))
        except RubricrmError as error:
            rows.append({"sequences": count, "error": str(error)[:500]})
        gc.collect()  # the memory of these slots, before the next ones take theirs
    return rows


def main() -> None:
    """Compare and measure."""
    parser = argparse.ArgumentParser(description="Many sequences at once on one graph of a bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--graph", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--against")
    parser.add_argument("--counts", type=int, nargs="*", default=[])
    parser.add_argument("--new", type=int, default=64)
    options = parser.parse_args()
    started = time.monotonic()
    subject = Subject(options.bundle, options.graph, options.device)
    report: dict[str, Any] = {"graph": options.graph, "kv_update": subject.session.facts.kv_update}
    if options.against:
        other = Subject(options.bundle, options.against, options.device)
        report["compared"] = compare(subject, other, options.new)
    report["rows"] = attempts(subject, options.counts, options.new)
    report["seconds"] = time.monotonic() - started
    print(json.dumps(report))


if __name__ == "__main__":
    main()
