"""Verdicts on the answers that rows hold, by the rubrics that were just written for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rubricrm.errors import RubricrmError
from rubricrm.generation.options import GenerationOptions, OptionKeywords
from rubricrm.generation.result import RubricResult
from rubricrm.judge.judge_model import JudgeModel
from rubricrm.judge.jury import Jury
from rubricrm.judge.verdict import Reason, Scored, Unscored, Verdict
from rubricrm.runtime.prompt_directory import open_prompt_directory
from rubricrm.served_model import ServedModel

from rubricrm_batch.answering import Answer, seed_of
from rubricrm_batch.patience import Patience
from rubricrm_batch.persistence import Persistence

Outcome = Verdict | Scored | Unscored


@dataclass(frozen=True)
class JudgeSource:
    """Where the judge is, and what it compares.

    Attributes:
        judge: A judge's bundle, or a judge on a server.
        answers: The columns of two answers as staged; of a reward, the answer's and the reference's.
        is_reward: Whether a number is wanted beside the verdict.
        votes: Samples in each order.
        temperature: Of the judge; None: as its bundle tells.
        threads: That a bundle computes with.
    """

    judge: Path | ServedModel
    answers: tuple[str, str]
    is_reward: bool
    votes: int
    temperature: float | None
    threads: int

    def identity(self) -> dict[str, Any]:
        """Return what verdicts depend on. Raises as `Bundle.open`."""
        sampling = {"votes": self.votes, "temperature": self.temperature}
        columns = {"answers": list(self.answers), "is_reward": self.is_reward}
        prompt = self.judge.prompt if isinstance(self.judge, ServedModel) else self.judge
        return {"manifest_sha256": open_prompt_directory(prompt).manifest_sha256, **sampling, **columns}

    def open(self) -> JudgeModel:
        """Open the judge. Raises as `JudgeModel.open` and `JudgeModel.connect`."""
        if isinstance(self.judge, ServedModel):
            return self.judge.connect(JudgeModel)
        return JudgeModel.open(self.judge, threads=self.threads)


class Judging:
    """Judges rows with one open judge.

    Args:
        source: Opened here.
        options: Of the job; its seed is the base of the votes' seeds.
        patience: With an outage.
    """

    def __init__(self, source: JudgeSource, options: GenerationOptions, patience: Patience) -> None:
        self._source = source
        self._base_seed = options.seed or 0
        self._judge = source.open()
        self._persistence = Persistence(self._ask, patience)

    def judge(self, rows: Mapping[str, Mapping[str, Any]], answers: Mapping[str, Answer]) -> dict[str, Outcome]:
        """Return what the jury says of each row that has a rubric.

        Args:
            rows: By their ids, with the columns of both answers and the request as `request`.
            answers: The rubrics.

        Raises:
            JobStopped: As `Persistence.outcomes`.
        """
        rubrics = {row: answer for row, answer in answers.items() if not isinstance(answer, RubricrmError)}

        def judged(some: Collection[str]) -> Iterator[tuple[str, Outcome]]:
            at_once = max(1, self._judge.max_concurrency // (2 * self._source.votes))
            with ThreadPoolExecutor(at_once) as threads:
                outcomes = threads.map(lambda row: self._judged(row, rows[row], rubrics[row]), some)
                yield from zip(some, outcomes, strict=True)

        return self._persistence.outcomes(rubrics.keys(), judged, _passing)

    def _judged(self, row: str, columns: Mapping[str, Any], rubric: RubricResult) -> Outcome:
        if rubric.finish_reason != "stop":
            return Unscored(Reason.RUBRIC_FAILED, f"the rubric is cut: {rubric.finish_reason}.", retryable=False)
        a, b = (columns[name] for name in self._source.answers)
        if not isinstance(a, str) or not isinstance(b, str):
            missing = next(name for name in self._source.answers if not isinstance(columns[name], str))
            return Unscored(Reason.INPUT_INVALID, f"the column {missing!r} holds no text.", retryable=False)
        jury = self._jury(seed_of(row, self._base_seed))
        compare = jury.reward if self._source.is_reward else jury.compare
        return compare(rubric.request, a, b, rubric=rubric.text)

    def _jury(self, seed: int) -> Jury:
        given: OptionKeywords = {"seed": seed}
        if self._source.temperature is not None:
            given["temperature"] = self._source.temperature
        return Jury(self._judge, votes=self._source.votes, **given)

    def _ask(self) -> None:
        self._judge.generate_text("Is anybody there?", max_new_tokens=1)


def verdict_columns(outcome: Outcome) -> dict[str, Any]:
    """Return the columns of what a jury said; of no verdict none: no number stands for it."""
    if isinstance(outcome, Unscored):
        return {}
    verdict = outcome.verdict if isinstance(outcome, Scored) else outcome
    return {
        "winner": verdict.winner,
        "votes_for_a": verdict.votes_for_a,
        "votes_for_b": verdict.votes_for_b,
        "no_vote": verdict.no_vote,
        "consistent": verdict.consistent,
        "reward": outcome.value if isinstance(outcome, Scored) else None,
    }


def _passing(outcome: Outcome) -> str | None:
    return outcome.detail if isinstance(outcome, Unscored) and outcome.retryable else None
