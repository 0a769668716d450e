"""The votes of one comparison: all are asked for at once, and none that fails takes another with it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from rubricrm.errors import PromptTooLong, RequestInvalid, RubricrmError
from rubricrm.generation.options import GenerationOptions
from rubricrm.judge.judgment import Choice
from rubricrm.judge.judgment_result import JudgmentResult
from rubricrm.judge.verdict import SWAPPED, Order, Vote

_OTHER: dict[Choice, Choice] = {"A": "B", "B": "A"}
_NUM_SEEDS = 2**64


class Judge(Protocol):
    """What judges: a `JudgeModel`, in this process or on a server."""

    @property
    def default_options(self) -> GenerationOptions:
        """How it samples where nothing else is asked for."""
        ...

    def submit(
        self, request: str, rubric: str, response_a: str, response_b: str, *, options: GenerationOptions | None = None
    ) -> Future[JudgmentResult]:
        """Return at once the future of a judgment."""
        ...


@dataclass(frozen=True)
class Case:
    """What is judged: two answers to a request, by a rubric."""

    request: str
    rubric: str
    a: str
    b: str


class Poll:
    """Votes that are being taken. Votes of one order share their whole prompt: an engine computes it once."""

    def __init__(
        self, judge: Judge, case: Case, orders: Iterable[Order], votes: int, options: GenerationOptions
    ) -> None:
        """Ask for all votes. The first of each order has the seed of the options, each next one the next seed.

        Raises:
            RequestInvalid: A text is blank, or holds NUL or lone surrogates.
            PromptTooLong: The texts do not fit the judge's context.
        """
        self._asked: list[tuple[Order, Future[JudgmentResult] | RubricrmError]] = []
        try:
            for order in orders:
                shown = (case.b, case.a) if order == SWAPPED else (case.a, case.b)
                for index in range(votes):
                    seed = None if options.seed is None else (options.seed + index) % _NUM_SEEDS
                    vote = _submit(judge, case, shown, replace(options, seed=seed))
                    self._asked.append((order, vote))
        except BaseException:
            self.cancel()
            raise

    @property
    def futures(self) -> list[Future[JudgmentResult]]:
        """What to wait for."""
        return [asked for _, asked in self._asked if isinstance(asked, Future)]

    def cancel(self) -> None:
        """End all votes that are not there yet."""
        for future in self.futures:
            future.cancel()

    def votes(self) -> tuple[Vote, ...]:
        """Return the votes, waiting for them.

        Raises:
            Exception: A vote met what is no RubricrmError: a fault of the program, and not of the judge.
        """
        return tuple(_vote(order, asked) for order, asked in self._asked)


def _submit(
    judge: Judge, case: Case, shown: tuple[str, str], options: GenerationOptions
) -> Future[JudgmentResult] | RubricrmError:
    try:
        return judge.submit(case.request, case.rubric, *shown, options=options)
    except (RequestInvalid, PromptTooLong):  # true of every vote
        raise
    except RubricrmError as error:
        return error


def _vote(order: Order, asked: Future[JudgmentResult] | RubricrmError) -> Vote:
    if isinstance(asked, RubricrmError):
        return Vote(order, None, None, failure=str(asked), retryable=asked.retryable)
    try:
        result = asked.result()
    except RubricrmError as error:
        return Vote(order, None, None, failure=str(error), retryable=error.retryable)
    judgment = result.judgment
    winner = judgment.winner
    if winner is not None and order == SWAPPED:
        winner = _OTHER[winner]
    is_late = result.finish_reason == "timeout"
    return Vote(order, winner, result.seed, judgment.issues, retryable=is_late, text=judgment.text)
