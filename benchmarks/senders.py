#!/usr/bin/env python3
"""What several senders get from one model: the engine's throughput, and how long a newcomer and the others wait.

    senders.py BUNDLE [--senders 8] [--kept 306] [--own 24] [--new 200] [--alone 3] [--threads 2] [--llama GGUF]

Every sender asks once, at the same time: a prompt of `--kept` tokens that all share and `--own` more, then `--new`
tokens, whatever the model wants. Measured in one run: `--alone` requests one after another, all senders at once with
the shared tokens restored and without, bare steps of the session with as many rows at the same positions, and a
newcomer while all others decode. `--llama` also asks llama.cpp's server with a slot for each sender, its prompt state
kept. It is the one inside xllamacpp, which must be installed: built here, since its wheel is for any AVX2 processor.
Prints one JSON object; times in seconds.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rubricrm.generation.completion import Completion
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sequence import Sequence as Generation
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.prefix import Prefix, compute_prefix
from rubricrm.runtime.session import Session
from rubricrm.runtime.slot import Chunk
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_bench.machine_facts import machine_facts
from rubricrm_bench.workload import without_stops

STEPS = 8


@dataclass
class Job:
    """What is sent.

    Attributes:
        senders: How many.
        kept: Tokens that all prompts begin with.
        own: Tokens that follow, of each prompt.
        new: Tokens that are generated.
    """

    senders: int
    kept: list[int]
    own: int
    new: int
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    vocabulary: int = 0

    def prompt(self) -> list[int]:
        """Return another prompt at each call."""
        return [*self.kept, *self.random.integers(self.vocabulary // 10, self.vocabulary // 2, self.own).tolist()]


class Asked:
    """A request on its way, and when its tokens came."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, prompt: list[int], new: int) -> None:
        options = GenerationOptions(max_new_tokens=new, stop_on_repetition=False)
        self.moments: list[float] = []
        self.sequence: Generation = engine.submit(prompt, options, completion=Completion(tokenizer, options))
        self.sequence.listen(self._note)

    def _note(self) -> None:
        while len(self.moments) < len(self.sequence.token_ids):
            self.moments.append(time.perf_counter())

    def wait(self) -> None:
        self.sequence.wait()
        self.sequence.raise_error()

    @property
    def gaps(self) -> list[float]:
        return np.diff(self.moments).tolist()


class Ours:
    """The engine over one session."""

    def __init__(self, path: Path, job: Job, threads: int) -> None:
        bundle = without_stops(Bundle.open(path))
        self._manifest = bundle.manifest
        self._job = job
        self._tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
        self.session = Session(bundle, threads=threads)
        self._prefix = compute_prefix(self.session, job.kept)
        self._options = EngineOptions(max_concurrency=job.senders, keep_prompts=False)

    def engine(self, prefix: Prefix | None) -> Engine:
        return Engine(self.session, self._manifest, prefix, self._options)

    def ask(self, engine: Engine, new: int) -> Asked:
        return Asked(engine, self._tokenizer, self._job.prompt(), new)

    def measure(self, alone: int) -> dict[str, Any]:
        """Return all figures."""
        engine = self.engine(self._prefix)
        self.ask(engine, 2).wait()  # pages and caches
        found: dict[str, Any] = {"steps_before": self.steps()}
        found["one_after_another"] = (
            timed(lambda: [self.ask(engine, self._job.new).wait() for _ in range(alone)]) / alone
        )
        found["together"] = timed(lambda: self._together(engine))
        found["newcomer"] = self._newcomer(engine)
        cold = self.engine(None)
        self.ask(cold, 2).wait()
        found["together_cold"] = timed(lambda: self._together(cold))
        found["steps_after"] = self.steps()
        return found

    def steps(self) -> dict[str, float]:
        """Return the seconds of bare steps of one sequence and of all, in the middle of their answers."""
        past = len(self._job.kept) + self._job.own + self._job.new // 2
        slots = self.session.new_slots(self._job.senders, past + STEPS + 4)
        for slot in slots:
            slot.restore(self._prefix.positions, len(self._job.kept))
            slot.cache.advance(past - len(self._job.kept))  # zeros: their values do not matter here
        return {
            "one": timed_steps(self.session, slots[:1], past),
            "all": timed_steps(self.session, slots, past),
        }

    def _together(self, engine: Engine) -> None:
        for asked in [self.ask(engine, self._job.new) for _ in range(self._job.senders)]:
            asked.wait()

    def _newcomer(self, engine: Engine) -> dict[str, float]:
        """Send one while the others decode, after the same prompt alone."""
        alone = self.ask(engine, 4)
        alone.wait()
        others = [self.ask(engine, 40) for _ in range(self._job.senders - 1)]
        for asked in others:
            asked.sequence.wait(lambda asked=asked: len(asked.moments) >= 8)
        newcomer = self.ask(engine, 10)
        newcomer.wait()
        for asked in others:
            asked.wait()
        gaps = [gap for asked in others for gap in asked.gaps]
        return {
            "first_token": newcomer.moments[0] - newcomer.sequence.started,
            "first_token_alone": alone.moments[0] - alone.sequence.started,
            "median_gap": median(gaps),
            "longest_gap": max(gaps),
        }


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def timed_steps(session: Session, slots: Sequence[Any], past: int) -> float:
    times = []
    for _ in range(STEPS):
        times.append(timed(lambda: session.step([Chunk(slot, [5]) for slot in slots])))
        for slot in slots:
            slot.rewind(past)
    return median(times)


def measure_llama(path: Path, job: Job, threads: int, alone: int) -> dict[str, Any]:
    """The same requests to llama.cpp's server."""
    import urllib.request

    import xllamacpp

    length = len(job.kept) + job.own + job.new + 16
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = length * job.senders, 512, 512
    parameters.n_parallel = job.senders
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.cache_ram_mib = 0  # copies of older prompts, which nothing here asks for
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)

    def ask(new: int) -> None:
        asked = {"prompt": job.prompt(), "n_predict": new, "samplers": ["top_k"], "top_k": 1, "ignore_eos": True}
        body = json.dumps({**asked, "cache_prompt": True}).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{server.listening_address}/completion", body, headers)
        ) as response:
            assert json.load(response)["tokens_predicted"] == new

    def together(new: int) -> None:
        senders = [threading.Thread(target=ask, args=(new,)) for _ in range(job.senders)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()

    together(2)  # every slot then holds the shared tokens
    return {
        "built_with": xllamacpp.get_system_info(),
        "one_after_another": timed(lambda: [ask(job.new) for _ in range(alone)]) / alone,
        "together": timed(lambda: together(job.new)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--kept", type=int, default=306)
    parser.add_argument("--own", type=int, default=24)
    parser.add_argument("--new", type=int, default=200)
    parser.add_argument("--alone", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--llama", type=Path)
    options = parser.parse_args()
    vocabulary = Bundle.open(options.bundle).manifest.tokenizer.num_tokens
    kept = np.random.default_rng(3).integers(vocabulary // 10, vocabulary // 2, options.kept).tolist()
    job = Job(options.senders, kept, options.own, options.new, vocabulary=vocabulary)
    found: dict[str, Any] = {"machine": machine_facts(), "job": {**vars(options), "bundle": str(options.bundle.name)}}
    found["ours"] = ours = Ours(options.bundle, job, options.threads).measure(options.alone)
    ours["times_one_after_another"] = ours["one_after_another"] * options.senders / ours["together"]
    steps = [ours["steps_before"], ours["steps_after"]]
    bare = options.senders * sum(step["one"] for step in steps) / sum(step["all"] for step in steps)
    ours["times_of_bare_steps"] = bare
    ours["share_of_bare_steps"] = ours["times_one_after_another"] / bare
    if options.llama is not None:
        found["job"]["llama"] = options.llama.name
        found["llama"] = llama = measure_llama(options.llama, job, options.threads, options.alone)
        llama["together_times_ours"] = llama["together"] / ours["together"]
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
