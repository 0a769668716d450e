"""Many requests through one model: as many at once as it takes, and every one has an outcome."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue

from rubricrm.errors import EngineBusy, OptionInvalid, RubricrmError
from rubricrm.generation.result import RubricResult
from rubricrm.generation.rubric_stream import RubricStream


@dataclass(frozen=True)
class Outcome:
    """What became of one of many requests: a result or an error, and never neither.

    Attributes:
        index: The request's place, from 0.
        request: The request.
        result: Its result, or None.
        error: Why there is none, or None.
    """

    index: int
    request: str
    result: RubricResult | None
    error: RubricrmError | None = None


def check_concurrency(value: int | None, default: int) -> int:
    """Return how many of many requests run at a time; None is the default.

    Raises:
        OptionInvalid: It is no number from 1 on.
    """
    if value is None:
        return default
    if type(value) is not int or value < 1:
        raise OptionInvalid(f"max_concurrency must be an integer from 1 on, got {value!r:.80}.")
    return value


class _Running:
    """Requests that run, and which of them have ended."""

    def __init__(self, start: Callable[[str], RubricStream]) -> None:
        self._start = start
        self._streams: dict[int, tuple[str, RubricStream]] = {}
        self._ended: SimpleQueue[int] = SimpleQueue()

    def __len__(self) -> int:
        return len(self._streams)

    def has_ended(self) -> bool:
        return not self._ended.empty()

    def begin(self, index: int, request: str) -> Outcome | None:
        """Start a request; return its outcome if it is refused."""
        try:
            stream = self._start(request)
        except RubricrmError as error:
            return Outcome(index, request, None, error)
        self._streams[index] = request, stream
        stream.on_end(lambda: self._ended.put(index))
        return None

    def take(self) -> Outcome:
        """Wait for one of them to end."""
        index = self._ended.get()
        request, stream = self._streams.pop(index)
        try:
            stream.wait()
        except RubricrmError as error:
            return Outcome(index, request, None, error)
        return Outcome(index, request, stream.result())

    def close(self) -> None:
        for _, stream in self._streams.values():
            stream.close()


def as_they_end(
    start: Callable[[str], RubricStream], requests: Iterable[str], max_concurrency: int
) -> Generator[Outcome]:
    """Yield outcomes as requests end. Leaving the iteration cancels those that still run.

    Args:
        start: Starts a request.
        requests: Any number; one is taken when there is room for it.
        max_concurrency: Most requests that run at a time.
    """
    running = _Running(start)
    try:
        for index, request in enumerate(requests):
            while len(running) == max_concurrency or running.has_ended():
                yield running.take()
            refused = running.begin(index, request)
            while refused and isinstance(refused.error, EngineBusy) and len(running):
                yield running.take()  # others fill the line: there may be room when one of these has ended
                refused = running.begin(index, request)
            if refused:
                yield refused
        while len(running):
            yield running.take()
    finally:
        running.close()


def in_order(outcomes: Generator[Outcome]) -> Generator[Outcome]:
    """Yield outcomes in the order of their requests: those that came too early wait."""
    early: dict[int, Outcome] = {}
    index = 0
    with closing(outcomes):
        for outcome in outcomes:
            early[outcome.index] = outcome
            while index in early:
                yield early.pop(index)
                index += 1
