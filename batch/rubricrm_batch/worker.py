"""What runs in every Ray actor: one open model, and blocks of rows through it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from rubricrm.errors import RubricrmError
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.result import RubricResult
from rubricrm.judge.verdict import Unscored

from rubricrm_batch.answering import Answer, RowAnswerer
from rubricrm_batch.columns import ANSWER, ERROR_CODE, ERROR_MESSAGE, ID, RETRYABLE, UNSCORED, VERDICT
from rubricrm_batch.errors import JobStopped
from rubricrm_batch.judging import JudgeSource, Judging, Outcome, verdict_columns
from rubricrm_batch.model_source import ModelSource
from rubricrm_batch.patience import Patience


class RubricWorker:
    """Answers tables of staged rows. No row makes it raise: its table holds the error.

    Args:
        source: Opened here, once. A failure is said with the first table, where Ray reports it and ends the job.
        options: Of every row; the seed is the job's.
        patience: With an outage.
        schema: Of what is returned.
        request: The column of the requests.
        judge: Who judges the answers that rows hold; None: nobody.
    """

    def __init__(
        self,
        source: ModelSource,
        options: GenerationOptions,
        patience: Patience,
        schema: pa.Schema,
        request: str,
        judge: JudgeSource | None = None,
    ) -> None:
        self._schema = schema
        self._request = request
        self._unopened: RubricrmError | None = None
        self._judging: Judging | None = None
        try:
            self._answerer = RowAnswerer(source.open(), options, patience)
            if judge is not None:
                self._judging = Judging(judge, options, patience)
        except RubricrmError as error:
            self._unopened = error

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return the rows with their answers, in the order they came.

        Raises:
            JobStopped: The model cannot be opened, or does not answer any more.
        """
        if self._unopened is not None:
            raise JobStopped(f"the model cannot be opened: {self._unopened} Mend it; then the same command goes on.")
        whole = rows.filter(pa.compute.equal(rows[ERROR_CODE], ""))
        requests = zip(whole[ID].to_pylist(), whole[self._request].to_pylist(), strict=True)
        answers = self._answerer.answer(dict(requests))
        verdicts: Mapping[str, Outcome] = {}
        if self._judging is not None:
            verdicts = self._judging.judge({row[ID]: row for row in whole.to_pylist()}, answers)
        return answered_table(rows, answers, self._schema, verdicts)


def answered_table(
    rows: pa.Table, answers: Mapping[str, Answer], schema: pa.Schema, verdicts: Mapping[str, Outcome] | None = None
) -> pa.Table:
    """Return staged rows with what became of them."""
    said = verdicts or {}
    written = [_written(answers.get(row)) | _judged(said.get(row)) for row in rows[ID].to_pylist()]
    faults = zip(rows[ERROR_CODE].to_pylist(), rows[ERROR_MESSAGE].to_pylist(), strict=True)
    for answer, (code, message) in zip(written, faults, strict=True):
        if code:
            answer |= {ERROR_CODE: code, ERROR_MESSAGE: message}
    names = {*ANSWER.names, *VERDICT.names, ERROR_CODE, ERROR_MESSAGE, RETRYABLE}
    columns = [
        pa.array([answer.get(entry.name) for answer in written], entry.type)
        if entry.name in names
        else rows[entry.name]
        for entry in schema
    ]
    return pa.table(columns, schema=schema)


def _written(answer: Answer | None) -> dict[str, Any]:
    """Return the columns of an answer; none: the row was never asked."""
    own: dict[str, Any] = {ERROR_CODE: "", ERROR_MESSAGE: "", RETRYABLE: False}
    if isinstance(answer, RubricResult):
        return own | _answer_columns(answer)
    if answer is not None:
        message = str(answer).removeprefix(f"{answer.code}: ")
        return own | {ERROR_CODE: answer.code, ERROR_MESSAGE: message, RETRYABLE: answer.retryable}
    return own


def _judged(outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {}
    if isinstance(outcome, Unscored):
        return {
            ERROR_CODE: UNSCORED,
            ERROR_MESSAGE: f"{outcome.reason}: {outcome.detail}",
            RETRYABLE: outcome.retryable,
        }
    return verdict_columns(outcome)


def _answer_columns(result: RubricResult) -> dict[str, Any]:
    return {
        "rubric": result.text,
        "rubric_json": json.dumps(result.rubric.to_dict(), ensure_ascii=False),
        "finish_reason": result.finish_reason,
        "num_criteria": len(result.rubric.criteria),
        "num_issues": len(result.rubric.issues),
        "prompt_tokens": result.usage.prompt_tokens,
        "cached_prompt_tokens": result.usage.cached_prompt_tokens,
        "completion_tokens": result.usage.completion_tokens,
        "seed": result.seed,
    }
