"""POST /v1/chat/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from rubricrm_serve.chat_request import ChatRequest
from rubricrm_serve.choices import Result, Stream
from rubricrm_serve.completion_answer import CompletionAnswer
from rubricrm_serve.documented import answers
from rubricrm_serve.openai_answer import ChatChoice, ChatCompletion, Finish, Head, head
from rubricrm_serve.refusal import Refusal
from rubricrm_serve.service import Service
from rubricrm_serve.token_logprobs import chat_logprobs


class ChatAnswer(CompletionAnswer[ChatRequest]):
    """A chat completion: of the messages as they are, or the rubric of the last one."""

    def streams(self) -> list[Stream]:
        """Open one for each choice."""
        model, options = self.service.model, self.body.all_options(self.service.options.timeout_s)
        if not self.is_rubric:
            messages = self.body.conversation()
            return [model.stream_text(messages, options=each) for each in options]
        request = self.body.last_user_text()
        if not request:
            raise Refusal(
                400, "messages: the last message of the user is the request; there is none.", param="messages"
            )
        return [model.stream(request, options=each) for each in options]

    def head(self, request_id: str) -> Head:
        """Begin with id and model."""
        return head("chat.completion", "chatcmpl", request_id, self.body.model, self.service.fingerprint)

    def chunk_head(self) -> Head:
        """Name the chunk."""
        return {"object": "chat.completion.chunk"}

    def choice(self, index: int, result: Result, finish: Finish) -> ChatChoice:
        """Return a message."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": result.text, "refusal": None},
            "logprobs": chat_logprobs(self.service.model.model.prompt.tokenizer, result.logprobs),
            "finish_reason": finish,
        }

    def opening(self, index: int) -> dict[str, object]:
        """Say who speaks."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def delta(self, index: int, text: str, finish: Finish | None) -> dict[str, object]:
        """Return what is new of a message."""
        delta = {"content": text} if text else {}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def chat_routes(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["OpenAI"])

    @router.post("/v1/chat/completions", responses=answers(ChatCompletion, stream=True), response_class=Response)
    async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation; with the model id NAME-rubric, write the rubric of its last user message.

        Earlier messages of a request for a rubric are not read.
        """
        return await ChatAnswer(service, body, request).respond()

    return router
