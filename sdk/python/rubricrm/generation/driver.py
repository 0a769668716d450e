"""The thread that steps an engine: it starts with the first request, and ends when it has long had nothing to do."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rubricrm.errors import ModelClosed, RuntimeFailed

_IDLE_S = 1.0
# A step is over sooner. The thread may also be unable to end: what it waits for is held by the thread that stops it.
_LONGEST_STOP_S = 5.0


class Driver:
    """Calls `step` again and again as long as it has work to do.

    The thread is a daemon: whoever waits for a result keeps the process alive, and nobody else has to.
    """

    def __init__(self, step: Callable[[], bool], fail: Callable[[Exception], object]) -> None:
        """Start nothing yet.

        Args:
            step: Does some work; returns whether there may be more.
            fail: Takes what `step` raised; the work goes on after it.
        """
        self._step = step
        self._fail = fail
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_awake = False
        self._is_stopped = False

    def wake(self) -> None:
        """Say that there is work. Safe from any thread.

        Raises:
            ModelClosed: It was stopped.
            RuntimeFailed: The system starts no more threads.
        """
        with self._changed:
            if self._is_stopped:
                raise ModelClosed("the model was closed. Open it again.")
            self._is_awake = True
            self._changed.notify()
            if self._thread is None:
                self._start()

    def stop(self) -> None:
        """End the thread after its step, and wait for it; but not from within it. No other one starts.

        A signal's handler interrupts a thread anywhere, also where it holds a lock that the step needs. The wait is
        therefore limited to 5 seconds: the step then ends when the handler has returned.
        """
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_LONGEST_STOP_S)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="rubricrm-engine", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            raise RuntimeFailed(
                f"starting the engine's thread: {error}. Raise the limit, or end other ones."
            ) from error

    def _run(self) -> None:
        while self._is_wanted():
            try:
                while not self._is_stopped and self._step():
                    pass
            except Exception as error:  # noqa: BLE001 (whoever waits must hear of it, whatever it is)
                self._fail(error)

    def _is_wanted(self) -> bool:
        """Wait for work; forget the thread if there is none, so that the next work starts another one."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_awake or self._is_stopped, _IDLE_S)
            is_wanted, self._is_awake = self._is_awake and not self._is_stopped, False
            if not is_wanted:
                self._thread = None
            return is_wanted
