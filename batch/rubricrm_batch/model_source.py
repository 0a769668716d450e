"""Where the model of a job is: a bundle, or a server with a prompt directory. It is opened once in every worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.served_model import ServedModel

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class BundleSource:
    """A bundle, which each worker opens.

    Attributes:
        path: Its directory, which every node must see.
        device: As in `RubricModel.open`.
        threads: That each worker computes with.
        max_concurrency: Most requests that a worker computes together.
    """

    path: Path
    device: str | None
    threads: int
    max_concurrency: int

    def identity(self) -> Mapping[str, Any]:
        """Return what the answers depend on. Raises as `Bundle.open`."""
        return {"manifest_sha256": Bundle.open(self.path).manifest_sha256}

    def open(self) -> RubricModel:
        """Open the model. Raises as `RubricModel.open`."""
        return RubricModel.open(
            self.path, device=self.device, threads=self.threads, max_concurrency=self.max_concurrency
        )


@dataclass(frozen=True)
class ServerSource:
    """A server, to which each worker connects.

    Attributes:
        served: The model there. Every node must reach the server and see the prompt directory.
        constrain: Whether the server is to hold rubrics to their form.
        max_concurrency: Most requests that a worker has under way.
    """

    served: ServedModel
    constrain: bool
    max_concurrency: int

    def identity(self) -> Mapping[str, Any]:
        """Return what the answers depend on: neither the address nor the dialect, in which the same is asked for.

        A server that takes no form is asked for something else. It connects, so that a wrong address is said at once.

        Raises:
            RubricrmError: As `RubricModel.connect`.
        """
        with self.open() as model:
            told, is_held = dict(model.description), model.has_form
        return {"name": told["name"], "manifest_sha256": told["manifest_sha256"], "is_held": is_held}

    def open(self) -> RubricModel:
        """Connect. Raises as `RubricModel.connect`."""
        return self.served.connect(RubricModel, constrain=self.constrain, max_concurrency=self.max_concurrency)


ModelSource = BundleSource | ServerSource
