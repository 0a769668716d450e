"""POST /v1/rubrics: a request becomes a typed rubric."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from rubricrm.generation.result import RubricResult
from rubricrm.generation.rubric_stream import StreamEvent
from starlette.responses import Response

from rubricrm_serve.choices import ChoicePart, Choices
from rubricrm_serve.documented import answers
from rubricrm_serve.event_response import PING, EventResponse, event
from rubricrm_serve.reply import reply
from rubricrm_serve.rubric_request import RubricRequest
from rubricrm_serve.service import Service


class RubricAnswer(BaseModel):
    """What `RubricResult.to_dict` gives: docs/CLI.md describes it."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int
    request: str
    text: str
    rubric: dict[str, Any]
    finish_reason: str
    usage: dict[str, int]
    timings_ms: dict[str, float | None]
    seed: int
    logprobs: list[dict[str, Any]] | None
    grammar_overrules: dict[str, float] | None
    model: dict[str, str]


def rubric_routes(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["Rubrics"])

    @router.post("/v1/rubrics", responses=answers(RubricAnswer, stream=True), response_class=Response)
    async def create_rubric(body: RubricRequest, request: Request) -> Response:
        """Write the rubric of a request.

        A stream has the events `text` (a piece), `criterion` (as soon as its line is complete), `taken_back` (all
        criteria so far were part of a thought), `result` (the whole answer, last) or `error`.
        """
        if body.model is not None:
            service.is_rubric(body.model)
        stream = service.model.stream(body.request, options=body.options(service.options.timeout_s))
        choices = await service.begin([stream], is_rubric=True)
        if body.stream:
            return EventResponse(_events(choices), choices.close, error_name="error")
        results = await choices.results_for(request.receive)
        return Response(status_code=499) if results is None else reply(_result(results[0]))

    return router


async def _events(choices: Choices) -> AsyncGenerator[bytes]:
    async for parts in choices.parts():
        yield b"".join(map(_event, parts)) if parts else PING


def _event(part: ChoicePart) -> bytes:
    content = part.content
    if not isinstance(content, StreamEvent):
        return event(_result(content), "result")
    found = [event({}, "taken_back")] if content.takes_back else []
    if content.text:
        found.append(event({"text": content.text}, "text"))
    for each in content.criteria:
        kind = None if each.kind is None else each.kind.value
        found.append(event({"number": each.number, "text": each.text, "kind": kind}, "criterion"))
    return b"".join(found)


def _result(result: object) -> dict[str, Any]:
    if not isinstance(result, RubricResult):
        raise TypeError(f"the result of a rubric is a {type(result).__name__}")
    return result.to_dict()
