"""POST /get_reward: rewards for OpenRLHF. All of them or none: its protocol knows no missing reward."""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter, Request
from rubricrm.judge.async_jury import AsyncJury
from rubricrm.judge.verdict import Scored, Unscored
from rubricrm_reward.sample import RewardSample
from starlette.responses import Response
from typing_extensions import TypedDict

from rubricrm_serve.documented import answers
from rubricrm_serve.judging import in_place
from rubricrm_serve.refusal import RETRY_AFTER, Refusal
from rubricrm_serve.reply import reply
from rubricrm_serve.reward_request import RewardRequest
from rubricrm_serve.service import Service

logger = logging.getLogger(__name__)


class RewardAnswer(TypedDict):
    """A reward from 0 to 1 for each query."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


def reward_routes(service: Service, jury: AsyncJury) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["Judge"])

    @router.post("/get_reward", responses=answers(RewardAnswer), response_class=Response)
    async def get_reward(body: RewardRequest, request: Request) -> Response:
        """Score answers against their references. 503 where one of them cannot be scored: a failure is no 0."""
        samples = body.samples()
        found = await in_place(service, request.receive, lambda: _rewards(jury, samples))
        if found is None:
            return Response(status_code=499)
        scored = [each for each in found if isinstance(each, Scored)]
        for each in found:
            service.metrics.judged("verdict" if isinstance(each, Scored) else str(each.reason))
        if len(scored) < len(found):
            raise _unavailable([each for each in found if isinstance(each, Unscored)], len(found))
        values = [each.value for each in scored]
        no_vote = [float(each.verdict.no_vote) for each in scored]
        answer: RewardAnswer = {"rewards": values, "scores": values, "extra_logs": {"rubricrm_no_vote": no_vote}}
        return reply(answer)

    return router


async def _rewards(jury: AsyncJury, samples: list[RewardSample]) -> list[Scored | Unscored]:
    works = (jury.reward(each.request, each.answer, each.reference, rubric=each.rubric) for each in samples)
    return await asyncio.gather(*works)


def _unavailable(unscored: list[Unscored], count: int) -> Refusal:
    reasons = ", ".join(sorted({str(each.reason) for each in unscored}))
    logger.warning("%d of %d answers were not scored: %s", len(unscored), count, unscored[0].detail)
    message = f"{len(unscored)} of {count} answers could not be scored: {reasons}."
    return Refusal(503, message, "unavailable", code="unscored", headers=RETRY_AFTER)
