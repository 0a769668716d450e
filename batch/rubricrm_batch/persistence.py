"""Asking again: what may pass is tried three times, and an outage is waited for, since it is no row's fault."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from rubricrm.errors import ModelClosed, RubricrmError, ServerRefused

from rubricrm_batch.errors import JobStopped
from rubricrm_batch.patience import Patience

logger = logging.getLogger(__name__)
T = TypeVar("T")

# How often a row is tried whose error may pass, while the model answers others.
_TRIES = 3
# A server says so of every request: a wrong key, a right that was taken away, a model that is gone.
_REFUSALS_OF_ALL = (401, 403, 404)


@dataclass(frozen=True)
class Persistence:
    """Gets an outcome for every row from a model that may be away for a while.

    Attributes:
        ask: Makes the model compute one token; raises as it does.
        patience: With an outage.
        sleep: For tests.
    """

    ask: Callable[[], object]
    patience: Patience
    sleep: Callable[[float], None] = time.sleep

    def outcomes(
        self,
        rows: Collection[str],
        compute: Callable[[Collection[str]], Iterable[tuple[str, T]]],
        passing: Callable[[T], str | None],
    ) -> dict[str, T]:
        """Return the outcome of each row.

        Args:
            rows: Their ids.
            compute: Yields the outcome of each of some rows.
            passing: Says what is wrong where an outcome may be another one next time, else None.

        Raises:
            JobStopped: The model does not answer any more, or refuses everything.
        """
        found: dict[str, T] = {}
        left = rows
        for _ in range(_TRIES):
            found |= compute(left)
            problems = {row: problem for row in left if (problem := passing(found[row]))}
            if not problems:
                break
            # Also after the last try: if it is away, these rows are not at fault.
            self._wait_until_it_answers(next(iter(problems.values())))
            left = problems.keys()
        return found

    def _wait_until_it_answers(self, reason: str) -> None:
        for number in self.patience.tries(self.sleep):
            try:
                self.ask()
            except RubricrmError as error:
                reason = str(checked(error))
                most = self.patience.attempts
                logger.warning("The model does not answer, attempt %d of %d: %s", number, most, reason)
            else:
                return
        raise JobStopped(
            f"the model did not answer {self.patience.attempts} times in a row, with pauses between; the last time: "
            f"{reason} No row of the outage is done. Bring it back; then the same command goes on."
        )


def checked(error: RubricrmError) -> RubricrmError:
    """Return an error that is one row's.

    Raises:
        JobStopped: It is that of all rows.
    """
    is_of_all = isinstance(error, ServerRefused) and error.status in _REFUSALS_OF_ALL
    if is_of_all or isinstance(error, ModelClosed):
        raise JobStopped(f"no request can be answered any more: {error} Mend it; then the same command goes on.")
    return error
