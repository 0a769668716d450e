"""POST /v1/judgments: which of two answers to a request is better."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from rubricrm.judge.async_jury import AsyncJury
from rubricrm.judge.verdict import Verdict
from starlette.responses import Response
from typing_extensions import TypedDict

from rubricrm_serve.documented import answers
from rubricrm_serve.judging import in_place, refusal_of_unscored
from rubricrm_serve.reply import reply
from rubricrm_serve.request_fields import RequestFields
from rubricrm_serve.service import Service

logger = logging.getLogger(__name__)
JudgedText = Annotated[str, Field(min_length=1)]


class JudgmentRequest(RequestFields):
    """Two answers to a request, and the rubric to judge them by; without one, the server's model writes it."""

    request: JudgedText
    response_a: JudgedText
    response_b: JudgedText
    rubric: JudgedText | None = None


class JudgmentAnswer(TypedDict):
    """A verdict, or why there is none: one of the two is null."""

    verdict: dict[str, Any] | None
    unscored: dict[str, Any] | None


def judgment_routes(service: Service, jury: AsyncJury) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["Judge"])

    @router.post("/v1/judgments", responses=answers(JudgmentAnswer), response_class=Response)
    async def create_judgment(body: JudgmentRequest, request: Request) -> Response:
        """Compare two answers. Where the judge's votes decide nothing, `unscored` says why: a failure is no verdict."""
        found = await in_place(
            service,
            request.receive,
            lambda: jury.compare(body.request, body.response_a, body.response_b, rubric=body.rubric),
        )
        if found is None:
            return Response(status_code=499)
        if isinstance(found, Verdict):
            service.metrics.judged("verdict")
            return reply({"verdict": found.to_dict(), "unscored": None})
        service.metrics.judged(str(found.reason))
        if refusal := refusal_of_unscored(found):
            logger.warning("a comparison gave no verdict: %s", found.detail)
            raise refusal
        return reply({"verdict": None, "unscored": found.to_dict()})

    return router
