"""How both kinds of OpenAI's completions are answered: whole, or as a stream of chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Any, Generic, TypeVar

from rubricrm.generation.result import RubricResult, TextResult
from rubricrm.generation.rubric_stream import StreamEvent
from starlette.requests import Request
from starlette.responses import Response

from rubricrm_serve.choices import ChoicePart, Choices, Result, Stream
from rubricrm_serve.event_response import PING, EventResponse, event
from rubricrm_serve.openai_answer import Finish, Head, finish_reason, usage
from rubricrm_serve.reply import reply
from rubricrm_serve.request_fields import SamplingFields
from rubricrm_serve.service import Service

Body = TypeVar("Body", bound=SamplingFields)
DONE = b"data: [DONE]\n\n"


class CompletionAnswer(ABC, Generic[Body]):
    """One request on its way to its answer."""

    def __init__(self, service: Service, body: Body, request: Request) -> None:
        """Read which model is asked.

        Raises:
            Refusal: There is no such model.
        """
        self.service = service
        self.body = body
        self.is_rubric = service.is_rubric(body.model)
        self._request = request
        self._head = self.head(request.state.request_id)

    async def respond(self) -> Response:
        """Return the answer.

        Raises:
            Refusal: There is none.
        """
        choices = await self.service.begin(self.streams(), is_rubric=self.is_rubric)
        if self.body.stream:
            return EventResponse(self._events(choices), choices.close)
        results = await choices.results_for(self._request.receive)
        return Response(status_code=499) if results is None else reply(self._whole(results))

    @abstractmethod
    def streams(self) -> list[Stream]:
        """Return the streams of all choices, not used before."""

    @abstractmethod
    def head(self, request_id: str) -> Head:
        """Return the fields that a whole answer begins with."""

    @abstractmethod
    def chunk_head(self) -> Head:
        """Return those of them that are different in a chunk."""

    @abstractmethod
    def choice(self, index: int, result: Result, finish: Finish) -> Any:
        """Return a choice of a whole answer."""

    @abstractmethod
    def opening(self, index: int) -> Any:
        """Return the choice of the chunk before the first text; None: there is no such chunk."""

    @abstractmethod
    def delta(self, index: int, text: str, finish: Finish | None) -> Any:
        """Return the choice of a chunk: a piece of text, or the end."""

    def _whole(self, results: list[Result]) -> dict[str, Any]:
        timeout_s = self.service.options.timeout_s
        choices = [self.choice(index, result, finish_reason(result, timeout_s)) for index, result in enumerate(results)]
        return {**self._head, "choices": choices, "usage": usage(results, self.body.num_choices)}

    async def _events(self, choices: Choices) -> AsyncGenerator[bytes]:
        head = {**self._head, **self.chunk_head()}
        extra = {"usage": None} if self.body.wants_usage else {}
        openings = [choice for index in range(choices.size) if (choice := self.opening(index)) is not None]
        if openings:
            yield b"".join(event({**head, "choices": [choice], **extra}) for choice in openings)
        results: dict[int, Result] = {}
        async for parts in choices.parts():
            found = [choice for part in parts if (choice := self._part(part, results)) is not None]
            yield b"".join(event({**head, "choices": [choice], **extra}) for choice in found) if parts else PING
        if self.body.wants_usage:
            in_order = [results[index] for index in sorted(results)]
            yield event({**head, "choices": [], "usage": usage(in_order, self.body.num_choices)})
        yield DONE

    def _part(self, part: ChoicePart, results: dict[int, Result]) -> Any:
        """Return the choice of a part's chunk, None where it brings no text; keep a result."""
        content = part.content
        if isinstance(content, RubricResult | TextResult):
            results[part.index] = content
            return self.delta(part.index, "", finish_reason(content, self.service.options.timeout_s))
        text = content.text if isinstance(content, StreamEvent) else content
        return self.delta(part.index, text, None) if text else None
