"""How long an outage is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_LONGEST_S = 30.0


@dataclass(frozen=True)
class Patience:
    """An outage is no fault of a row: the model is asked again, with pauses that double up to 30 seconds.

    Attributes:
        attempts: After so many in a row without an answer the job ends.
        first_pause_s: Before the second attempt.
    """

    attempts: int = 8
    first_pause_s: float = 1.0

    def tries(self, sleep: Callable[[float], None] = time.sleep) -> Iterator[int]:
        """Yield the number of each attempt, from 1, after its pause."""
        for number in range(1, self.attempts + 1):
            sleep(min(_LONGEST_S, self.first_pause_s * 2 ** (number - 1)))
            yield number
