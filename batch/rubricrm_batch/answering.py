"""Rows to answers through one open model: every row gets an answer or an error."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice

from rubricrm.errors import RubricrmError
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.result import RubricResult
from rubricrm.model import RubricModel

from rubricrm_batch.patience import Patience
from rubricrm_batch.persistence import Persistence, checked

Answer = RubricResult | RubricrmError


def seed_of(row_id: str, base: int) -> int:
    """Return the seed of a row: of its id and the job's seed alone, so that a resumed job writes the same."""
    digest = blake2b(row_id.encode(), digest_size=8, key=base.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") >> 1  # Parquet has no unsigned numbers that every reader knows


@dataclass(frozen=True)
class RowAnswerer:
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

        Raises:
            JobStopped: As `Persistence.outcomes`.
        """
        persistence = Persistence(self._ask, self.patience, self.sleep)
        return persistence.outcomes(requests.keys(), lambda rows: self._answered(requests, rows), _passing)

    def _ask(self) -> None:
        self.model.generate("Is anybody there?", max_new_tokens=1)

    def _answered(self, requests: Mapping[str, str], rows: Collection[str]) -> Iterator[tuple[str, Answer]]:
        """Yield the outcome of each request, as many at a time as the model takes."""
        waiting = iter(rows)
        running: dict[Future[RubricResult], str] = {}
        try:
            while True:
                for row in islice(waiting, self.model.max_concurrency - len(running)):
                    try:
                        running[self._submit(row, requests[row])] = row
                    except RubricrmError as error:
                        yield row, checked(error)
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


def _outcome(future: Future[RubricResult]) -> Answer:
    try:
        return future.result()
    except RubricrmError as error:
        return checked(error)


def _passing(answer: Answer) -> str | None:
    return str(answer) if isinstance(answer, RubricrmError) and answer.retryable else None
