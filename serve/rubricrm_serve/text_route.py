"""POST /v1/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request
from rubricrm.async_model import AsyncStream
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.text_stream import TextStream
from rubricrm.runtime.prompt import check_text
from starlette.responses import Response

from rubricrm_serve.choices import Result, Stream
from rubricrm_serve.completion_answer import CompletionAnswer
from rubricrm_serve.documented import answers
from rubricrm_serve.openai_answer import Finish, Head, TextChoice, TextCompletion, head
from rubricrm_serve.refusal import Refusal
from rubricrm_serve.service import Service
from rubricrm_serve.text_request import OnePrompt, TextRequest
from rubricrm_serve.token_logprobs import text_logprobs


class TextAnswer(CompletionAnswer[TextRequest]):
    """A completion: what follows a prompt without any template, or the rubric of a request."""

    def streams(self) -> list[Stream]:
        """Open one for each choice of each prompt."""
        options = self.body.all_options(self.service.options.timeout_s)
        return [self._stream(prompt, each) for prompt in self.body.prompts() for each in options]

    def head(self, request_id: str) -> Head:
        """Begin with id and model."""
        return head("text_completion", "cmpl", request_id, self.body.model, self.service.fingerprint)

    def chunk_head(self) -> Head:
        """Chunks have the same name."""
        return {}

    def choice(self, index: int, result: Result, finish: Finish) -> TextChoice:
        """Return a text."""
        logprobs = text_logprobs(self.service.model.model.prompt.tokenizer, result.logprobs)
        return {"index": index, "text": result.text, "logprobs": logprobs, "finish_reason": finish}

    def opening(self, index: int) -> None:  # noqa: ARG002 (a chat's has one)
        """Begin with the first text."""
        return

    def delta(self, index: int, text: str, finish: Finish | None) -> dict[str, object]:
        """Return what is new of a text."""
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}

    def _stream(self, prompt: OnePrompt, options: GenerationOptions) -> Stream:
        model = self.service.model
        if isinstance(prompt, list):
            if self.is_rubric:
                message = f"prompt: {self.service.rubric_name} takes the text of a request, got token ids."
                raise Refusal(400, f"{message} Send them to {self.service.name}.", param="prompt")
            is_rubric = self.body.form is not None
            if is_rubric and not model.model.has_form:
                raise Refusal(
                    400, "form: this server holds no text to the form of rubrics. Leave it out.", param="form"
                )
            return model.stream_ids(prompt, is_rubric=is_rubric, options=options)
        if self.is_rubric:
            return model.stream(prompt, options=options)

        def start() -> TextStream:  # in the thread that encodes
            check_text(prompt, "prompt")
            return model.model.stream_ids(model.model.prompt.tokenizer.encode(prompt), options=options)

        return AsyncStream(start)


def text_routes(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["OpenAI"])

    @router.post("/v1/completions", responses=answers(TextCompletion, stream=True), response_class=Response)
    async def create_completion(body: TextRequest, request: Request) -> Response:
        """Continue a text or token ids; with the model id NAME-rubric, write the rubric of a request."""
        return await TextAnswer(service, body, request).respond()

    return router
