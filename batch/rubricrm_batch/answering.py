"""Rows to answers through one open model: every row gets an answer or an error, and an outage is no row's error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice

from rubricrm.errors import ModelClosed, RubricrmError, ServerRefused
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.result import RubricResult
from rubricrm.model import RubricModel

from rubricrm_batch.errors import JobStopped
from rubricrm_batch.patience import Patience

logger = logging.getLogger(__name__)

# How often a row is tried whose error may pass, while the model answers others.
_TRIES = 3
# A server says so of every request: a wrong key, a right that was taken away, a model that is gone.
_REFUSALS_OF_ALL = (401, 403, 404)
Answer = RubricResult | RubricrmError


def seed_of(row_id: str, base: int) -> int:
    """Return the seed of a row: of its id and the job's seed alone, so that a resumed job writes the same."""
    digest = blake2b(row_id.encode(), digest_size=8, key=base.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") >> 1  # Parquet has no unsigned numbers that every reader knows


@dataclass(frozen=True)
class Answerer:
    """Answers rows with one model.

    Attributes:
        model: The open model.
        options: Of every row but for the seed; its seed is the job's.
        patience: With an outage.
        sleep: For tests.
    """

    model: RubricModel
    options: GenerationOptions
    patience: Patience
    sleep: Callable[[float], None] = time.sleep

    def answer(self, requests: Mapping[str, str]) -> dict[str, Answer]:
        """Return an answer or an error for each request by its id.

        A row whose error may pass is tried three times as long as the model answers anything at all.

        Raises:
            JobStopped: The model does not answer any more, or refuses everything.
        """
        answers: dict[str, Answer] = {}
        left = dict(requests)
        for attempt in range(1, _TRIES + 1):
            answers |= self._answered(left)
            left = {row: requests[row] for row in left if _may_pass(answers[row])}
            if left and attempt < _TRIES:
                self._wait_until_it_answers(answers[next(iter(left))])
        if left:
            self._wait_until_it_answers(answers[next(iter(left))])  # else these rows are not at fault
        return answers

    def _answered(self, requests: Mapping[str, str]) -> Iterator[tuple[str, Answer]]:
        """Yield the outcome of each request, as many at a time as the model takes."""
        waiting = iter(requests.items())
        running: dict[Future[RubricResult], str] = {}
        try:
            while True:
                for row, request in islice(waiting, self.model.max_concurrency - len(running)):
                    try:
                        running[self._submit(row, request)] = row
                    except RubricrmError as error:
                        yield row, _checked(error)
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), _outcome(future)
        finally:
            for future in running:
                future.cancel()

    def _submit(self, row: str, request: str) -> Future[RubricResult]:
        seed = seed_of(row, self.options.seed or 0)
        return self.model.submit(request, options=replace(self.options, seed=seed))

    def _wait_until_it_answers(self, reason: Answer) -> None:
        """Ask for one token until the model answers, so that nobody takes an outage for the fault of rows.

        Raises:
            JobStopped: It does not, for as long as patience lasts.
        """
        for number in self.patience.tries(self.sleep):
            try:
                self.model.generate("Is anybody there?", max_new_tokens=1)
            except RubricrmError as error:
                reason = _checked(error)
                logger.warning(
                    "The model does not answer, attempt %d of %d: %s", number, self.patience.attempts, reason
                )
            else:
                return
        raise JobStopped(
            f"the model did not answer {self.patience.attempts} times in a row, with pauses between; the last time: "
            f"{reason} No row of the outage is done. Bring it back; then the same command goes on."
        )


def _outcome(future: Future[RubricResult]) -> Answer:
    try:
        return future.result()
    except RubricrmError as error:
        return _checked(error)


def _checked(error: RubricrmError) -> RubricrmError:
    """Return an error that is one row's.

    Raises:
        JobStopped: It is that of all rows.
    """
    is_of_all = isinstance(error, ServerRefused) and error.status in _REFUSALS_OF_ALL
    if is_of_all or isinstance(error, ModelClosed):
        raise JobStopped(f"no request can be answered any more: {error} Mend it; then the same command goes on.")
    return error


def _may_pass(answer: Answer) -> bool:
    return isinstance(answer, RubricrmError) and answer.retryable
