"""The flow of `rubricrm bench`: prove the answers, run the rows, measure the machine, report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rubricrm.errors import ServerError

from rubricrm_bench.bench_job import BenchJob
from rubricrm_bench.bundle_subject import BundleSubject
from rubricrm_bench.machine_facts import machine_facts
from rubricrm_bench.proof import Proof
from rubricrm_bench.roofline import Limits
from rubricrm_bench.rows import RowRun, run_row
from rubricrm_bench.server_subject import ServerSubject
from rubricrm_bench.subject import Subject
from rubricrm_bench.workload import BenchRow, make_rows, read_requests

OnProgress = Callable[[str, int, int], None]


@dataclass
class BenchResult:
    """What was measured; filled while it is measured, so that an interruption leaves what there is.

    Attributes:
        job: The options.
        subject: What was measured.
        machine: See `machine_facts`.
        proof: Whether the answers are right.
        opening: See `measure_opening`; empty before it was measured.
        rows: In order.
        limits: Of the machine, the best of before and after the rows; None before they were measured.
        is_partial: Whether the run was interrupted.
        failure: What a server did that ended the run; None: nothing.
    """

    job: BenchJob
    subject: Subject
    machine: dict[str, Any]
    proof: Proof | None = None
    opening: dict[str, Any] = field(default_factory=dict)
    rows: list[RowRun] = field(default_factory=list)
    limits: Limits | None = None
    is_partial: bool = True
    failure: ServerError | None = None


def run_bench(job: BenchJob, on_progress: OnProgress) -> BenchResult:
    """Measure a bundle or a server. Ctrl-C, or a server that fails, ends it; the result then holds what was measured.

    Raises:
        RubricrmError: The bundle cannot be opened, the server cannot be used, or an option does not fit.
    """
    requests = read_requests(job.requests)
    subject = _subject(job)
    rows = make_rows(job, subject.bundle, requests)
    result = BenchResult(job, subject, machine_facts())
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _measure(result, requests, rows, on_progress)
    except ServerError as error:
        result.failure = error
    return result


def _subject(job: BenchJob) -> Subject:
    return BundleSubject(job, job.model) if isinstance(job.model, Path) else ServerSubject(job, job.model)


def _measure(result: BenchResult, requests: tuple[str, ...], rows: Sequence[BenchRow], on_progress: OnProgress) -> None:
    subject = result.subject
    on_progress("opening", 0, 1)
    result.opening = subject.measure_opening()
    on_progress("proving the answers", 0, 1)
    result.proof = subject.prove(requests)
    on_progress("measuring the machine", 0, 1)
    result.limits = subject.measure_limits()
    for is_fixed in (False, True):
        chosen = [row for row in rows if (row.new_tokens is not None) is is_fixed]
        if chosen:
            _run_rows(chosen, result, on_progress, is_fixed=is_fixed)
    on_progress("measuring the machine", 0, 1)
    again = subject.measure_limits()
    if result.limits is not None and again is not None:
        result.limits = result.limits.best(again)
    result.is_partial = False


def _run_rows(rows: Sequence[BenchRow], result: BenchResult, on_progress: OnProgress, *, is_fixed: bool) -> None:
    job = result.job
    runs = [RowRun(row) for row in rows]
    for opening in range(max(job.openings_of(row.concurrency) for row in rows)):
        # A model that is open may be some percent faster or slower than when it is opened again.
        with result.subject.open(is_fixed=is_fixed) as model:
            for run in runs:
                if opening >= job.openings_of(run.row.concurrency):
                    continue
                if opening == 0:
                    result.rows.append(run)
                run_row(model, run, job, opening, on_progress)
