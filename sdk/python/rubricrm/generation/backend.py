"""What computes the answers of an open model: an engine in this process, or a server."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event
from typing import Protocol

from rubricrm.generation.capabilities import Capabilities
from rubricrm.generation.generation import Generation
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.prompt import Prompt


class Backend(Protocol):
    """Takes ids of prompts, and gives generations. Its methods are safe from any thread.

    A model is a backend between two others: the prompt, which makes ids of requests, and the reader, which makes a
    rubric of text. So a backend knows neither requests nor rubrics.
    """

    @property
    def prompt(self) -> Prompt:
        """Makes ids that the backend's model understands."""
        ...

    @property
    def description(self) -> Mapping[str, str]:
        """What results say of the model that wrote them."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    @property
    def context_length(self) -> int:
        """Most tokens that prompt and answer have together."""
        ...

    @property
    def max_concurrency(self) -> int:
        """Most requests that are computed together."""
        ...

    @property
    def has_form(self) -> bool:
        """Whether it holds rubrics to their form."""
        ...

    @property
    def capabilities(self) -> Capabilities | None:
        """What a server turned out to do; None: nothing was asked for."""
        ...

    def start(
        self,
        prompt_ids: list[int],
        options: GenerationOptions,
        *,
        is_rubric: bool,
        cancel: Event | None,
        started: float,
    ) -> Generation:
        """Return at once a generation that is being computed, or waits for it.

        Args:
            prompt_ids: The prompt.
            options: Checked.
            is_rubric: Whether what follows is a rubric, which may be held to its form.
            cancel: Setting it ends the generation before its next token; None: there is no such event.
            started: When the request came in.

        Raises:
            PromptTooLong: The prompt leaves no room for a single new token.
            OptionInvalid: The backend cannot do what an option asks for.
            EngineBusy: As many wait already as may.
            ModelClosed: The backend was closed, or made before this process was forked.
        """
        ...

    def close(self) -> None:
        """End every generation, and free what is held. Closing twice is fine."""
        ...
