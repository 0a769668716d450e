"""A batch from its input to its report: staged once, answered in runs, published whole."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet
from rubricrm.generation.options import GenerationOptions

from rubricrm_batch.cluster import Cluster, connected
from rubricrm_batch.columns import written_schema
from rubricrm_batch.errors import InputInvalid
from rubricrm_batch.inputs import fingerprint, open_source
from rubricrm_batch.job import Job, locked_job, write_errors
from rubricrm_batch.judging import JudgeSource
from rubricrm_batch.model_source import ModelSource
from rubricrm_batch.parquet_rows import parquet_files
from rubricrm_batch.patience import Patience
from rubricrm_batch.plan import run_plan, with_workers
from rubricrm_batch.progress import shown_progress
from rubricrm_batch.publishing import attempts_of, audited, publish, stage_failed
from rubricrm_batch.report import BatchReport
from rubricrm_batch.runs import begin_run
from rubricrm_batch.staging import is_text, stage, staged_name
from rubricrm_batch.vllm_step import VllmSource, with_vllm
from rubricrm_batch.worker import RubricWorker


@dataclass(frozen=True)
class Batch:
    """What is to be done, and how.

    Attributes:
        input: As `open_source`.
        output: The job's directory.
        model: Who answers.
        options: Of every row; the seed is the job's.
        request: The column of the requests.
        id_column: The column of the ids, or None.
        split: Of a data set of the hub.
        cluster: Where it runs.
        rows_per_block: What is written at a time.
        patience: With an outage.
        judge: Who judges the answers that rows hold; None: nobody.
    """

    input: str
    output: Path
    model: ModelSource | VllmSource
    options: GenerationOptions
    request: str
    id_column: str | None
    split: str
    cluster: Cluster
    rows_per_block: int
    patience: Patience
    judge: JudgeSource | None = None

    def run(self, *, retry_failed: bool = False) -> BatchReport:
        """Do what is not done yet, and compare what came out with what went in.

        Args:
            retry_failed: Answer rows again that failed and may succeed, when all rows are done.

        Raises:
            InputInvalid: The input as a whole is faulty; nothing was begun.
            JobDiffers: The output holds another job.
            JobBusy: Another process works in the output.
            JobStopped: The model or Ray ended it; the same call goes on.
            JobIncomplete: What was written is not what went in.
            RubricrmError: The model cannot be opened, or the disk is full.
        """
        started = time.monotonic()
        source = open_source(self.input, request=self.request, split=self.split)
        schema = source.schema
        identity = self._identity(fingerprint(source))
        with locked_job(self.output) as job:
            job.check_identity(identity)
            if self.judge is not None:
                self._answer_columns(schema)
            if not job.is_begun:
                stage(source, job.staged, request=self.request, id_column=self.id_column)
                job.begin(identity)
            for number in _attempts(job, retry_failed=retry_failed):
                self._attempt(job, number, schema)
            found = audited(job, job.rubrics)
            return BatchReport.of(job, found, attempts_of(job.rubrics), time.monotonic() - started)

    def _identity(self, input_sha256: str) -> dict[str, Any]:
        """Return what the output depends on. How it is computed is not in it: another number of workers may go on."""
        options = {name: value for name, value in asdict(self.options).items() if name not in ("grammar", "priority")}
        return {
            "input": {"sha256": input_sha256, "request": self.request, "id": self.id_column},
            "model": dict(self.model.identity()),
            "judge": self.judge and self.judge.identity(),
            "options": options | {"stop": list(self.options.stop)},
        }

    def _attempt(self, job: Job, number: int, columns: pa.Schema) -> None:
        directory = job.attempt(number)
        staged = job.staged if number == 1 else directory / "staged"
        with write_errors(job.path):
            run = begin_run(directory)
        files = parquet_files(staged)
        total = sum(parquet.read_metadata(file).num_rows for file in files)
        if run.num_rows({}) < total:
            with connected(self.cluster), shown_progress(run, total):
                run_plan(staged, run, self._answered(files[0], columns), self.rows_per_block)
        publish(job, run.rubrics, number)
        shutil.rmtree(directory, ignore_errors=True)

    def _answer_columns(self, columns: pa.Schema) -> tuple[str, str]:
        """Return the columns of both answers as staged.

        Raises:
            InputInvalid: There is no such column, or it holds no text.
        """
        assert self.judge is not None
        for name in self.judge.answers:
            if name not in columns.names or not is_text(columns.field(name).type):
                there = ", ".join(columns.names)
                raise InputInvalid(f"{self.input}: no column {name!r} of texts, for the judge; there are {there}.")
        a, b = (staged_name(columns, name) for name in self.judge.answers)
        return a, b

    def _answered(self, staged: Path, columns: pa.Schema) -> Callable[[Any], Any]:
        """Return the step of the plan that answers blocks of rows."""
        schema = written_schema(parquet.read_schema(staged), is_judged=self.judge is not None)
        request = staged_name(columns, self.request)
        if isinstance(self.model, VllmSource):
            return partial(with_vllm, source=self.model, options=self.options, schema=schema, request=request)
        arguments = {
            "source": self.model,
            "options": self.options,
            "patience": self.patience,
            "schema": schema,
            "request": request,
            "judge": self.judge and replace(self.judge, answers=self._answer_columns(columns)),
        }
        return partial(with_workers, worker=RubricWorker, arguments=arguments, cluster=self.cluster)


def _attempts(job: Job, *, retry_failed: bool) -> Iterator[int]:
    """Yield the attempts that are to be made, the one first that a killed run left."""
    done = attempts_of(job.rubrics)
    for number in range(1, done + 1):
        shutil.rmtree(job.attempt(number), ignore_errors=True)  # left by a kill after it was published
    under_way = job.attempt(done + 1) / "staged"
    if done == 0 or under_way.is_dir():
        yield done + 1
        done += 1
    if retry_failed:
        with write_errors(job.path):
            job.attempt(done + 1).mkdir(exist_ok=True)
        if stage_failed(job, job.attempt(done + 1) / "staged"):
            yield done + 1
        else:
            shutil.rmtree(job.attempt(done + 1), ignore_errors=True)
