"""Runs the rows: warm-up, then requests from as many threads as are to be in flight."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rubricrm.model import RubricModel

from rubricrm_bench.bench_job import BenchJob
from rubricrm_bench.sample import Sample
from rubricrm_bench.workload import BenchRow

OnProgress = Callable[[str, int, int], None]


@dataclass
class RowRun:
    """What was measured of a row; samples are added while it runs.

    Attributes:
        row: What was sent.
        samples: In the order in which they ended.
        wall_s: From the first request to the end of the last one, of all openings.
        is_partial: Whether it was interrupted.
    """

    row: BenchRow
    samples: list[Sample] = field(default_factory=list)
    wall_s: float = 0.0
    is_partial: bool = True


def run_row(model: RubricModel, run: RowRun, job: BenchJob, opening: int, on_progress: OnProgress) -> None:
    """Run a row's share of an opening. An exception of a request, or Ctrl-C, leaves what was measured so far."""
    row, openings = run.row, job.openings_of(run.row.concurrency)
    for number in range(job.warmup):
        row.run(model, number)
    if job.duration_s is not None:
        queue = _Numbers(len(run.samples), None, job.duration_s / openings)
    else:
        queue = _Numbers(len(run.samples), job.repeat * (opening + 1) // openings, None)
    started = time.perf_counter() - run.wall_s
    lock = threading.Lock()

    def work() -> None:
        while (number := queue.take()) is not None:
            sample = row.run(model, number)
            with lock:
                run.samples.append(sample)
                run.wall_s = time.perf_counter() - started
                on_progress(f"{row.name} x{row.concurrency}", len(run.samples), job.repeat)

    with ThreadPoolExecutor(row.concurrency, thread_name_prefix="request") as pool:
        working = [pool.submit(work) for _ in range(row.concurrency)]
        try:
            for future in working:
                future.result()
        except BaseException:
            queue.stop()
            raise
    run.is_partial = opening + 1 < openings


class _Numbers:
    """Hands out the numbers of requests: up to an end, or as long as there is time, but one at least."""

    def __init__(self, first: int, end: int | None, duration_s: float | None) -> None:
        self._first = self._next = first
        self._end = end
        self._until = None if duration_s is None else time.perf_counter() + duration_s
        self._lock = threading.Lock()

    def take(self) -> int | None:
        with self._lock:
            is_over = self._until is not None and time.perf_counter() >= self._until and self._next > self._first
            if is_over or (self._end is not None and self._next >= self._end):
                return None
            self._next += 1
            return self._next - 1

    def stop(self) -> None:
        with self._lock:
            self._end = 0
