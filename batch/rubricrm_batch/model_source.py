"""Where the model of a job is: a bundle, or a server with a prompt directory. It is opened once in every worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle

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
        url: Its address, which every node must reach.
        prompt: A prompt directory or a bundle, which every node must see.
        model: The model's name on the server; None: its only one.
        api_key: What the server asks for.
        constrain: Whether the server is to hold rubrics to their form.
        max_concurrency: Most requests that a worker has under way.
    """

    url: str
    prompt: Path
    model: str | None
    api_key: str | None
    constrain: bool
    max_concurrency: int

    def identity(self) -> Mapping[str, Any]:
        """Return what the answers depend on: not the address. It connects, so that a wrong address is said at once.

        Raises:
            RubricrmError: As `RubricModel.connect`.
        """
        with self.open() as model:
            description = dict(model.description)
        return {name: description[name] for name in ("name", "manifest_sha256")}

    def open(self) -> RubricModel:
        """Connect. Raises as `RubricModel.connect`."""
        return RubricModel.connect(
            self.url,
            prompt=self.prompt,
            model=self.model,
            api_key=self.api_key,
            constrain=self.constrain,
            max_concurrency=self.max_concurrency,
        )


ModelSource = BundleSource | ServerSource
