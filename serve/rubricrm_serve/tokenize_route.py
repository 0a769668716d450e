"""POST /tokenize: the ids of a text, a conversation or a request, as vLLM answers it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import Field, model_validator
from rubricrm.runtime.prompt import check_text
from starlette.responses import Response
from typing_extensions import TypedDict

from rubricrm_serve.chat_request import ChatMessage
from rubricrm_serve.documented import answers
from rubricrm_serve.refusal import Refusal
from rubricrm_serve.reply import reply
from rubricrm_serve.request_fields import RequestFields, refused
from rubricrm_serve.service import Service


class TokenizeRequest(RequestFields):
    """A text as it is, or messages; with NAME-rubric, the text is a request, and the ids are those of its prompt."""

    model: str | None = None
    prompt: Annotated[str, Field(min_length=1)] | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _refuse_both(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise refused("prompt", "give either prompt or messages.")
        return self


class TokenizeAnswer(TypedDict):
    """Token ids."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


def tokenize_routes(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["Rubrics"])

    codes = (400, 401, 404, 408, 413, 415)

    @router.post("/tokenize", responses=answers(TokenizeAnswer, codes=codes), response_class=Response)
    async def tokenize(body: TokenizeRequest) -> Response:
        """Return token ids. What spells a control token in a text is text."""
        is_rubric = body.model is not None and service.is_rubric(body.model)
        ids = await asyncio.to_thread(_ids, service, body, is_rubric)
        tokenizer = service.model.model.prompt.tokenizer
        spelled = [tokenizer.token_bytes(each).decode("utf-8", "replace") for each in ids]
        answer: TokenizeAnswer = {
            "count": len(ids),
            "max_model_len": service.model.model.context_length,
            "tokens": ids,
            "token_strs": spelled if body.return_token_strs else None,
        }
        return reply(answer)

    return router


def _ids(service: Service, body: TokenizeRequest, is_rubric: bool) -> list[int]:
    model = service.model.model
    if body.prompt is not None:
        check_text(body.prompt, "prompt")
        return model.prompt.encode_request(body.prompt) if is_rubric else model.prompt.tokenizer.encode(body.prompt)
    if is_rubric:
        raise Refusal(400, f"messages: {service.rubric_name} takes a prompt, the text of a request.", param="messages")
    messages = [{"role": message.role, "content": message.text} for message in body.messages or []]
    return model.prompt.encode_messages(messages)
