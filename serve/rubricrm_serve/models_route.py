"""GET /v1/models: the ids that a request may name."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from rubricrm_serve.documented import answers
from rubricrm_serve.openai_answer import ModelEntry, ModelList
from rubricrm_serve.reply import reply
from rubricrm_serve.service import Service


def models_routes(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["OpenAI"])

    @router.get("/v1/models", responses=answers(ModelList, codes=(401,)), response_class=Response)
    async def list_models() -> Response:
        """List the two ids of the model."""
        return reply(
            {"object": "list", "data": [_model(service, name) for name in (service.name, service.rubric_name)]}
        )

    @router.get("/v1/models/{name:path}", responses=answers(ModelEntry, codes=(401, 404)), response_class=Response)
    async def get_model(name: str) -> Response:
        """Describe one of them."""
        service.is_rubric(name)
        return reply(_model(service, name))

    return router


def _model(service: Service, name: str) -> ModelEntry:
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "rubricrm",
        "max_model_len": service.model.model.context_length,
    }
