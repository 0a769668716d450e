"""A rubric that will be there: a future of the standard library."""

from __future__ import annotations

from concurrent.futures import Future

from rubricrm.generation.result import RubricResult
from rubricrm.generation.rubric_stream import RubricStream


class RubricFuture(Future[RubricResult]):
    """The result of a request that was submitted.

    `cancel` ends the generation at once. Callbacks run in the engine's thread, between two steps: they must be quick.
    """

    def __init__(self, stream: RubricStream) -> None:
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
