"""An open model as the routes of a server see it: its names, its places, and who counts."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rubricrm.async_model import AsyncRubricModel

from rubricrm_serve.admission import Admission
from rubricrm_serve.choices import Choices, Stream
from rubricrm_serve.metrics import Metrics
from rubricrm_serve.probe import Probe
from rubricrm_serve.refusal import Refusal
from rubricrm_serve.server_options import ServerOptions


class Service:
    """What all routes share.

    Attributes:
        model: The open model.
        options: Of the server.
        name: The id of the model as it is.
        rubric_name: The id under which the last message is a request, and the answer its rubric.
        created: When the server started, in seconds since 1970.
        fingerprint: Says which weights answer.
        metrics: Of all generations.
        admission: Who may run.
        probe: Whether the model answers.
    """

    def __init__(self, model: AsyncRubricModel, options: ServerOptions) -> None:
        self.model = model
        self.options = options
        self.name = options.name or self.description["name"]
        self.rubric_name = f"{self.name}-rubric"
        self.created = int(time.time())
        self.fingerprint = f"fp_{self.description['manifest_sha256'][:12]}"
        self.metrics = Metrics(self.name)
        self.admission = Admission(options.max_concurrency, options.max_waiting, self.metrics.refused)
        self.metrics.watch(self.admission)
        self.probe = Probe(model)

    @property
    def description(self) -> Mapping[str, str]:
        """Facts of the model."""
        return self.model.model.description

    def is_rubric(self, name: str) -> bool:
        """Return whether a model id asks for rubrics.

        Raises:
            Refusal: There is no such id.
        """
        if name not in (self.name, self.rubric_name):
            known = f"{self.name} and {self.rubric_name}"
            message = f"model: there is no {name!r:.80} here. Ask for one of {known}."
            raise Refusal(404, message, "not_found_error", param="model", code="model_not_found")
        return name == self.rubric_name

    async def begin(self, streams: list[Stream], *, is_rubric: bool) -> Choices:
        """Return generations that wait or run.

        Raises:
            Refusal: There is no place, or the model does not take one of them.
        """
        choices = Choices(streams, self.admission, self.metrics, is_rubric=is_rubric)
        await choices.begin()
        return choices
