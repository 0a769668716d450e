"""The flow of `rubricrm bench`: prove the answers, run the rows, measure the machine, report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.machine import usable_cores

from rubricrm_bench.bench_job import BenchJob
from rubricrm_bench.device_limits import measure_device_limits
from rubricrm_bench.machine_facts import machine_facts
from rubricrm_bench.opening import measure_opening
from rubricrm_bench.proof import Proof, prove
from rubricrm_bench.roofline import Limits, measure_limits, weight_bytes
from rubricrm_bench.rows import RowRun, run_row
from rubricrm_bench.workload import BenchRow, make_rows, read_requests, without_stops

OnProgress = Callable[[str, int, int], None]


@dataclass
class BenchResult:
    """What was measured; filled while it is measured, so that an interruption leaves what there is.

    Attributes:
        job: The options.
        bundle: What was measured.
        threads: That computed.
        machine: See `machine_facts`.
        proof: Whether the answers are right.
        opening: See `measure_opening`; empty before it was measured.
        rows: In order.
        limits: Of the machine, the best of before and after the rows; None before they were measured.
        is_partial: Whether the run was interrupted.
    """

    job: BenchJob
    bundle: Bundle
    threads: int
    machine: dict[str, Any]
    proof: Proof | None = None
    opening: dict[str, Any] = field(default_factory=dict)
    rows: list[RowRun] = field(default_factory=list)
    limits: Limits | None = None
    is_partial: bool = True


def run_bench(job: BenchJob, on_progress: OnProgress) -> BenchResult:
    """Measure a bundle. Ctrl-C ends it; the result then holds what was measured, and says so.

    Raises:
        RubricrmError: The bundle cannot be opened, or an option does not fit it.
    """
    bundle = Bundle.open(job.bundle)
    requests = read_requests(job.requests)
    rows = make_rows(job, bundle, requests)
    result = BenchResult(job, bundle, job.threads or usable_cores(), machine_facts())
    with contextlib.suppress(KeyboardInterrupt):
        on_progress("opening", 0, 1)
        result.opening = measure_opening(job.bundle, job.device, job.threads)
        on_progress("proving the answers", 0, 1)
        result.proof = prove(bundle, job, requests)
        on_progress("measuring the machine", 0, 1)
        result.limits = _measure_limits(result)
        for variant, fixed in ((bundle, False), (without_stops(bundle), True)):
            chosen = [row for row in rows if (row.new_tokens is not None) is fixed]
            if chosen:
                _run_rows(variant, chosen, result, on_progress)
        on_progress("measuring the machine", 0, 1)
        result.limits = result.limits.best(_measure_limits(result))
        result.is_partial = False
    return result


def _measure_limits(result: BenchResult) -> Limits:
    """Measure the memory and the products of where the bundle runs: a GPU's are not the host's."""
    device = result.job.device or result.bundle.manifest.graph.target
    if device == "cpu":
        return measure_limits(weight_bytes(result.bundle), result.threads)
    return measure_device_limits(device)


def _run_rows(bundle: Bundle, rows: Sequence[BenchRow], result: BenchResult, on_progress: OnProgress) -> None:
    job = result.job
    runs = [RowRun(row) for row in rows]
    for opening in range(max(job.openings_of(row.concurrency) for row in rows)):
        # A model that is open may be some percent faster or slower than when it is opened again.
        # Requests come again: a prompt that was kept would be no prompt any more.
        with RubricModel(
            bundle,
            device=job.device,
            threads=job.threads,
            max_concurrency=max(job.concurrency),
            keep_prompts=False,
            draft=job.draft,
        ) as model:
            for run in runs:
                if opening >= job.openings_of(run.row.concurrency):
                    continue
                if opening == 0:
                    result.rows.append(run)
                run_row(model, run, job, opening, on_progress)
