"""What a benchmark measures: a bundle in this process, or a model on a server."""

from __future__ import annotations

from typing import Any, Protocol

from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle

from rubricrm_bench.proof import Proof
from rubricrm_bench.roofline import Limits


class Subject(Protocol):
    """Opens its model, and tells what can be known of it; what cannot be known is left out, and never guessed."""

    @property
    def bundle(self) -> Bundle:
        """What it is opened from; of a model on a server its prompt directory."""
        ...

    @property
    def threads(self) -> int | None:
        """How many compute; None: nobody tells."""
        ...

    def open(self, *, is_fixed: bool) -> RubricModel:
        """Open the model, for answers of fixed length or for such as end by themselves."""
        ...

    def prove(self, requests: tuple[str, ...]) -> Proof:
        """Find out whether its answers are right."""
        ...

    def measure_opening(self) -> dict[str, Any]:
        """Return times and memory of opening; empty where they cannot be measured."""
        ...

    def measure_limits(self) -> Limits | None:
        """Measure the machine that computes; None: it is not this one."""
        ...

    def weights_facts(self) -> dict[str, Any]:
        """Return what is computed with, key by key; None where nobody tells."""
        ...

    def server_facts(self) -> dict[str, Any] | None:
        """Return which server answers and what it can do; None: there is none."""
        ...
