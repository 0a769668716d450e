"""What the server says of itself: health, readiness, metrics, version, and how many run and wait."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from rubricrm import __version__
from starlette.responses import Response
from typing_extensions import TypedDict

from rubricrm_serve.documented import answers
from rubricrm_serve.refusal import RETRY_AFTER, Refusal, shutting_down
from rubricrm_serve.reply import reply
from rubricrm_serve.service import Service


class Status(TypedDict):
    """That all is well."""

    status: str


class Version(TypedDict):
    """The versions of the package and of the model."""

    version: str
    model: dict[str, str]


class Queue(TypedDict):
    """How many run and wait, and how many may."""

    running: int
    waiting: int
    max_concurrency: int
    max_waiting: int
    draining: bool


def status_routes(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["Status"])

    @router.get("/health", responses=answers(Status, codes=()), response_class=Response)
    async def get_health() -> Response:
        """Say that the process lives and answers, also while it drains."""
        return reply({"status": "ok"})

    @router.get("/ready", responses=answers(Status, codes=(503,)), response_class=Response)
    async def get_readiness() -> Response:
        """Say that new requests are taken and the model writes a token; at most 15 seconds old."""
        if service.admission.is_draining:
            raise shutting_down()
        if problem := await service.probe.problem():
            message = f"The model does not answer: {problem}. The server's log may say more."
            raise Refusal(503, message, "unavailable", code="not_ready", headers=RETRY_AFTER)
        return reply({"status": "ok"})

    @router.get("/metrics", response_class=Response)
    async def get_metrics() -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/version", responses=answers(Version, codes=()), response_class=Response)
    async def get_version() -> Response:
        """Return the versions of the package and of the model."""
        return reply({"version": __version__, "model": dict(service.description)})

    @router.get("/queue", responses=answers(Queue, codes=()), response_class=Response)
    async def get_queue() -> Response:
        """Return how many run and wait."""
        admission = service.admission
        queue: Queue = {
            "running": admission.running,
            "waiting": admission.waiting,
            "max_concurrency": admission.max_concurrency,
            "max_waiting": admission.max_waiting,
            "draining": admission.is_draining,
        }
        return reply(queue)

    return router
