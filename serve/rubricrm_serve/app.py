"""The application: routes over one open model, and what stands around them."""

from __future__ import annotations

import logging

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from rubricrm import __version__
from rubricrm.async_model import AsyncRubricModel
from rubricrm.errors import RubricrmError
from rubricrm.judge.async_jury import AsyncJury
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from rubricrm_serve.api_keys import ApiKeys
from rubricrm_serve.chat_route import chat_routes
from rubricrm_serve.judgment_route import judgment_routes
from rubricrm_serve.models_route import models_routes
from rubricrm_serve.openapi_document import describe
from rubricrm_serve.page_route import page_routes
from rubricrm_serve.refusal import Refusal, refusal_of
from rubricrm_serve.reply import refusal_reply
from rubricrm_serve.request_body import RequestBody
from rubricrm_serve.request_id import RequestId
from rubricrm_serve.reward_route import reward_routes
from rubricrm_serve.rubric_route import rubric_routes
from rubricrm_serve.server_options import ServerOptions
from rubricrm_serve.service import Service
from rubricrm_serve.status_route import status_routes
from rubricrm_serve.text_route import text_routes
from rubricrm_serve.tokenize_route import tokenize_routes

logger = logging.getLogger(__name__)


def create_app(
    model: AsyncRubricModel, options: ServerOptions | None = None, *, jury: AsyncJury | None = None
) -> FastAPI:
    """Return the ASGI application of an open model. Its `state.service` is what the routes share.

    The model stays the caller's: it is not closed here.

    Args:
        model: The model.
        options: How requests are taken.
        jury: Compares answers; None: there are no paths for that.
    """
    options = options or ServerOptions()
    service = Service(model, options)
    app = FastAPI(
        title="rubricrm",
        version=__version__,
        description="Requests become typed evaluation rubrics; OpenAI's API for everything else.",
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(RequestId),
            Middleware(ApiKeys, keys=options.api_keys),
            Middleware(RequestBody, max_bytes=options.max_body, timeout_s=options.body_timeout_s),
        ],
        exception_handlers={
            Refusal: _answer_refusal,
            RubricrmError: _answer_error,
            RequestValidationError: _answer_invalid,
            HTTPException: _answer_http,
            Exception: _answer_failure,
        },
    )
    app.state.service = service
    judging = [] if jury is None else [judgment_routes(service, jury), reward_routes(service, jury)]
    for router in (
        rubric_routes(service),
        chat_routes(service),
        text_routes(service),
        tokenize_routes(service),
        *judging,
        models_routes(service),
        status_routes(service),
        page_routes(),
    ):
        app.include_router(router)
    describe(app.openapi(), service)
    return app


async def _answer_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refusal_reply(error)


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RubricrmError)
    return refusal_reply(refusal_of(error))


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """Say which field is wrong; of several, the first."""
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):  # FastAPI reads JSON only from what says that it is JSON
        kind = request.headers.get("content-type", "")
        message = f"Content-Type: got {kind!r:.80}, expected application/json."
        return refusal_reply(Refusal(415, message, code="unsupported_media_type"))
    first, *others = error.errors()
    # Where a field may be one of several types, what fits one of them best lies deepest.
    found = max(
        (first, *(each for each in others if each["loc"][:2] == first["loc"][:2])), key=lambda each: len(each["loc"])
    )
    context = found.get("ctx", {})
    if found["type"] == "json_invalid":
        message = f"The body is no JSON: {context.get('error', 'it cannot be read')} at character {found['loc'][-1]}."
        return refusal_reply(Refusal(400, message, code="invalid_json"))
    if found["type"] == "refused_field":
        return refusal_reply(Refusal(400, found["msg"], param=context["field"], code="unsupported_field"))
    # Alternatives of a union are named in the place too: "stop.str" is "stop" for a client.
    place = ".".join(str(part) for part in found["loc"][1:] if isinstance(part, int) or part.isidentifier())
    return refusal_reply(Refusal(400, f"{place or 'body'}: {found['msg']}.", param=place or None, code="invalid_value"))


async def _answer_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    message = "The body is no JSON that can be read." if error.status_code == 400 else f"{error.detail}."
    return refusal_reply(Refusal(error.status_code, message, code=code, headers=error.headers))


async def _answer_failure(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    message = "The server failed; its log says why."
    headers = {"connection": "close"}  # uvicorn closes it after an exception
    return refusal_reply(Refusal(500, message, "server_error", code="internal_error", headers=headers))
