"""Who may be computed: as many as the model takes at once, a bounded line beside them, and nobody once it drains."""

from __future__ import annotations

from collections.abc import Callable

from rubricrm_serve.refusal import full, shutting_down


class AdmittedPlace:
    """Room for one generation, until `leave`."""

    def __init__(self, admission: Admission, cut: Callable[[], object]) -> None:
        self._admission = admission
        self.cut = cut

    def leave(self) -> None:
        """Give it back. Twice is fine."""
        self._admission.forget(self)


class Admission:
    """Counts generations. For one event loop.

    Attributes:
        max_concurrency: Most that the model computes together.
        max_waiting: Most that wait beside them.
        is_draining: Whether nobody is admitted any more.
    """

    def __init__(self, max_concurrency: int, max_waiting: int, on_refusal: Callable[[str], object]) -> None:
        """Begin with nobody.

        Args:
            max_concurrency: Most that the model computes together.
            max_waiting: Most that wait beside them.
            on_refusal: Takes the reason of each refusal.
        """
        self.max_concurrency = max_concurrency
        self.max_waiting = max_waiting
        self.is_draining = False
        self._on_refusal = on_refusal
        self._places: dict[AdmittedPlace, None] = {}

    @property
    def running(self) -> int:
        """How many the model computes: all there are, as far as it takes them at once."""
        return min(len(self._places), self.max_concurrency)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._places) - self.running

    def admit(self, count: int, cut: Callable[[], object]) -> list[AdmittedPlace]:
        """Return places for the generations of one request: for all of them, or none.

        Args:
            count: How many.
            cut: Called once for each place that is still taken when the time to drain is over.

        Raises:
            Refusal: There are too few, or the server is shutting down.
        """
        self._check(count)
        places = [AdmittedPlace(self, cut) for _ in range(count)]
        self._places |= dict.fromkeys(places)
        return places

    def forget(self, place: AdmittedPlace) -> None:
        """Give a place to the next one."""
        self._places.pop(place, None)

    def drain(self) -> None:
        """Admit nobody any more."""
        self.is_draining = True

    def cut(self) -> None:
        """End all that still run."""
        for place in tuple(self._places):
            place.cut()

    def _check(self, count: int) -> None:
        if self.is_draining:
            self._on_refusal("shutting_down")
            raise shutting_down()
        if len(self._places) + count > self.max_concurrency + self.max_waiting:
            self._on_refusal("full")
            raise full(self.max_concurrency, self.max_waiting)
