"""A result that will be there: a future of the standard library."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from rubricrm.generation.result import RubricResult

Result = TypeVar("Result")
Given = TypeVar("Given", covariant=True)


class ResultStream(Protocol[Given]):
    """What a future needs of a stream."""

    def wait(self) -> None:
        """Wait for the end, and raise what the generation failed with."""
        ...

    def on_end(self, call: Callable[[], object]) -> None:
        """Have a function called once, at the end."""
        ...

    def cancel(self) -> None:
        """End now."""
        ...

    def result(self) -> Given:
        """Return the outcome."""
        ...


class ResultFuture(Future[Result], Generic[Result]):
    """The result of what was submitted.

    `cancel` ends the generation at once. Callbacks run in the engine's thread, between two steps: they must be quick.
    """

    def __init__(self, stream: ResultStream[Result]) -> None:
        super().__init__()
        self._stream = stream
        stream.on_end(self._end)

    def cancel(self) -> bool:
        """End the generation, unless it has ended; return whether it was cancelled."""
        is_cancelled = super().cancel()
        self._stream.cancel()
        return is_cancelled

    def _end(self) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            self._stream.wait()
            self.set_result(self._stream.result())
        except Exception as error:  # noqa: BLE001 (whoever waits must hear of it, whatever it is)
            self.set_exception(error)


class RubricFuture(ResultFuture[RubricResult]):
    """The result of a request that was submitted. Otherwise as `ResultFuture`."""
