"""What a step costs on this machine by its number of rows: measured once, kept in the cache directory."""

from __future__ import annotations

import json
import logging
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from rubricrm.runtime.cache_directory import cache_reason, own_directory, warn_without_cache
from rubricrm.runtime.prefix import Prefix
from rubricrm.runtime.session import Session
from rubricrm.runtime.slot import Slot
from rubricrm.runtime.whole_file import write_whole

logger = logging.getLogger(__name__)

_MEASURED_ROWS = (1, 2, 3, 4, 6, 8)
_ROUNDS = 3


class StepCost:
    """Seconds of a step, by rows.

    Args:
        measured: Rows -> seconds, among them one row. What lies between is interpolated, and what lies beyond goes on
            as the last two do, but never becomes cheaper.

    Raises:
        ValueError: One row is missing, a number of rows is below 1, or a time is not positive and finite.
    """

    def __init__(self, measured: Mapping[int, float]) -> None:
        if 1 not in measured or min(measured) < 1:
            raise ValueError(f"rows {sorted(measured)}, expected 1 and others above it")
        if not all(math.isfinite(seconds) and seconds > 0 for seconds in measured.values()):
            raise ValueError(f"seconds {list(measured.values())}, expected positive ones")
        self.measured = dict(sorted(measured.items()))
        self._rows = list(self.measured)
        self._known: dict[int, float] = dict(self.measured)

    def seconds(self, rows: int) -> float:
        """Return what a step of `rows` rows takes."""
        known = self._known.get(rows)
        if known is None:
            known = self._known[rows] = self._between(rows)
        return known

    def _between(self, rows: int) -> float:
        listed = self._rows
        if len(listed) == 1:
            return self.measured[1]
        after = min(bisect_left(listed, rows), len(listed) - 1)
        low, high = listed[after - 1], listed[after]
        slope = (self.measured[high] - self.measured[low]) / (high - low)
        if rows > high:
            slope = max(0.0, slope)
        return self.measured[high] + slope * (rows - high)


def step_runner(session: Session, prefix: Prefix | None) -> Callable[[int], object]:
    """Return what runs a step of so many rows after a prefix, in a slot that the first step makes."""
    past = len(prefix.token_ids) if prefix is not None else 0

    @cache
    def slot() -> Slot:
        made = session.new_slot(past + _MEASURED_ROWS[-1])
        if prefix is not None:
            made.restore(prefix.positions, past)
        return made

    def run(rows: int) -> None:
        slot().rewind(past)
        session.run(slot(), [0] * rows, rows)

    return run


def measure_step_cost(run: Callable[[int], object]) -> StepCost:
    """Time steps of 1 to 8 rows: 20 steps, of which two are to warm up (2.5 s at the 4B shape on two cores).

    The fastest of three rounds counts, and no step costs more than a wider one did: what is above is noise.

    Args:
        run: Runs a step of so many rows and waits for it. Each with the same past, as long as is usual.
    """
    for rows in (1, _MEASURED_ROWS[-1]):
        run(rows)
    measured = dict.fromkeys(_MEASURED_ROWS, math.inf)
    for _ in range(_ROUNDS):
        for rows in _MEASURED_ROWS:
            started = time.perf_counter()
            run(rows)
            measured[rows] = min(measured[rows], time.perf_counter() - started)
    fastest = math.inf
    for rows in reversed(_MEASURED_ROWS):
        fastest = measured[rows] = min(fastest, measured[rows])
    return StepCost(measured)


def open_step_cost(manifest_sha256: str, cache_key: str, conditions: str, run: Callable[[int], object]) -> StepCost:
    """Return the cost of a bundle's steps in a session: what was measured before, else `measure_step_cost`.

    A file that is damaged is measured and written again. Without a cache directory every opening measures.

    Args:
        manifest_sha256: The bundle's.
        cache_key: The session's (`Session.cache_key`).
        conditions: What else changes how long a step takes, as part of a file's name: "2-threads-avx512vnni".
        run: As in `measure_step_cost`.
    """
    try:
        path = own_directory(manifest_sha256, cache_key) / f"step_cost.{conditions}.json"
    except OSError as error:
        warn_without_cache(error)
        return measure_step_cost(run)
    kept = _read(path)
    if kept is not None:
        return kept
    cost = measure_step_cost(run)
    try:
        write_whole(path, json.dumps({str(rows): seconds for rows, seconds in cost.measured.items()}))
    except OSError as error:
        logger.warning("the cost of steps could not be kept (%s)", cache_reason(error))
    return cost


def _read(path: Path) -> StepCost | None:
    """Return what a file holds; None where there is none, or none that can be used."""
    try:
        found = json.loads(path.read_bytes())
        return StepCost({int(rows): float(seconds) for rows, seconds in found.items()})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("%s: measuring the cost of steps again (%s)", path, error)
        return None
