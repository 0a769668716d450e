"""Many requests of every kind from threads and event loops: each ends with a result or a typed error, memory is flat.

python soak.py BUNDLE [--requests 2000 | --seconds 3600] [--threads 16] [--loops 4] [--quota CORES]

Prints what became of the requests, and resident memory: ten times on the way, or once a minute. If no request ends for
five minutes, the process prints where every thread stands, and fails. A quota takes a control group of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from core_quota import limited_to
from random_use import RandomUse
from rubricrm import AsyncRubricModel, RubricModel
from rubricrm.errors import PromptTooLong
from rubricrm.runtime.control_group import cpu_quota

_STUCK_S = 300
_NO_GROUP = 3  # exit code
_TASKS = 4  # of each event loop
_SPINNING = "session.intra_op.allow_spinning"


class Tally:
    """What became of the requests, and how much memory there was."""

    def __init__(self, requests: int | None, seconds: float) -> None:
        self.ends: Counter[str] = Counter()
        self.resident: list[int] = []
        self._requests = requests
        self._end = time.monotonic() + seconds
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._seeds = count()

    def seeds(self) -> Iterator[int]:
        """Yield seeds of requests until there were enough; several threads share them."""
        while time.monotonic() < self._end:
            with self._lock:
                seed = next(self._seeds)
            if self._requests is not None and seed >= self._requests:
                return
            yield seed

    def add(self, end: str) -> None:
        """Count a request that has ended."""
        faulthandler.dump_traceback_later(_STUCK_S, exit=True)  # again from the start
        with self._lock:
            self.ends[end] += 1
            if self._is_sample_due():
                gc.collect()
                self.resident.append(psutil.Process().memory_info().rss)

    def _is_sample_due(self) -> bool:
        if self._requests is not None:
            return self.ends.total() % max(1, self._requests // 10) == 0
        return time.monotonic() - self._started >= 60 * (len(self.resident) + 1)


def run_thread(model: RubricModel, tally: Tally) -> None:
    """Send one request after the other."""
    for seed in tally.seeds():
        tally.add(RandomUse(seed).from_thread(model))


def run_loop(model: RubricModel, tally: Tally) -> None:
    """Send requests from several tasks of an event loop."""

    async def send(async_model: AsyncRubricModel) -> None:
        for seed in tally.seeds():
            tally.add(await RandomUse(seed).from_task(async_model))

    async def main() -> None:
        async_model = AsyncRubricModel(model)
        await asyncio.gather(*(send(async_model) for _ in range(_TASKS)))

    asyncio.run(main())


def fill(model: RubricModel) -> None:
    """Fill what has a bound: what comes later touches no new page of the KV cache, and replaces phrases."""
    if model._backend.drafts is not None:
        phrases, numbers = model._backend.drafts.phrases, random.Random(0)
        for _ in range(phrases.most_entries // 200):
            phrases.learn([numbers.randrange(200) for _ in range(200)])
    length = model.context_length
    while True:
        texts = [f"{number} " + "word " * length for number in range(8)]
        outcomes = list(model.generate_many(texts, max_new_tokens=1))
        if not any(isinstance(outcome.error, PromptTooLong) for outcome in outcomes):
            return
        length -= 20


def growth(resident: list[int]) -> float:
    """Return the mean of the last ten minutes over that of the first ten, after two of warming up."""
    return statistics.fmean(resident[-10:]) / statistics.fmean(resident[2:12]) - 1


def is_spinning(model: RubricModel) -> bool:
    """Whether threads of the runtime spin while they wait for work."""
    options = model._backend.engine._session._graph.get_session_options()
    try:
        return str(options.get_session_config_entry(_SPINNING)) != "0"
    except RuntimeError:  # its default
        return True


def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """Do it, and return what is to be printed."""
    max_waiting = arguments.threads + _TASKS * arguments.loops
    with RubricModel.open(arguments.bundle, threads=2, max_waiting=max_waiting) as model:
        fill(model)
        started, cpu_started = time.monotonic(), time.process_time()
        tally = Tally(arguments.requests, arguments.seconds)
        with ThreadPoolExecutor(arguments.threads + arguments.loops) as pool:
            uses = [run_thread] * arguments.threads + [run_loop] * arguments.loops
            for use in [pool.submit(use, model, tally) for use in uses]:
                use.result()
        wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu_started
        final = model.generate("Write a haiku.", max_new_tokens=5)
        assert final.usage.completion_tokens == 5 or final.finish_reason == "stop"
        assert all(sequence.is_finished for sequence in model._backend.engine._sequences())
        return {
            "ends": tally.ends,
            "resident": tally.resident,
            "growth": growth(tally.resident) if arguments.requests is None else None,
            "quota": cpu_quota(),
            "spinning": is_spinning(model),
            "wall_s": round(wall_s, 1),
            "cores_used": round(cpu_s / wall_s, 3),
        }


def main() -> None:
    """Print the number of each end, and resident memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--loops", type=int, default=4)
    parser.add_argument("--quota", type=float, help="cores that this process may use")
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(_STUCK_S, exit=True)
    with ExitStack() as stack:
        try:
            if arguments.quota is not None:
                stack.enter_context(limited_to(arguments.quota))
        except OSError as error:
            print(f"no control group of {arguments.quota} cores can be made here: {error}", file=sys.stderr)
            sys.exit(_NO_GROUP)
        print(json.dumps(soak(arguments)))


if __name__ == "__main__":
    main()
