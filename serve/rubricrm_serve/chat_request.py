"""The body of POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from rubricrm.generation.options import GenerationOptions

from rubricrm_serve.request_fields import SamplingFields, Tokens, TopLogprobs, refused


class TextPart(BaseModel):
    """A part of a message; only text is supported."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message. What only other models write, such as tool calls, may be there if it is empty."""

    model_config = ConfigDict(extra="allow", strict=True, json_schema_extra={"additionalProperties": False})

    role: Literal["system", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]

    @property
    def text(self) -> str:
        """The content; parts stand on lines of their own."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)

    @model_validator(mode="after")
    def _refuse_others(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if not (name in _EMPTY and value in (None, [])):
                raise refused(f"messages.{name}", "is not supported here. Leave it out.")
        return self


_EMPTY = frozenset(("annotations", "audio", "function_call", "name", "refusal", "tool_calls", "reasoning_content"))


class ChatRequest(SamplingFields):
    """What to answer, and how."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None

    @model_validator(mode="after")
    def _refuse_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise refused("top_logprobs", "is for logprobs. Set logprobs to true, or leave it out.")
        if self.logprobs and self.stream:
            raise refused("logprobs", "is not there in a stream. Leave out stream, or logprobs.")
        return self

    def conversation(self) -> list[dict[str, str]]:
        """Return the messages as the SDK takes them."""
        return [{"role": message.role, "content": message.text} for message in self.messages]

    def last_user_text(self) -> str:
        """Return what the user said last; empty if nothing."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")

    def all_options(self, timeout_s: float) -> list[GenerationOptions]:
        """Return the options of each choice."""
        most = self.max_completion_tokens or self.max_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self.options(logprobs=logprobs, max_tokens=most, timeout_s=timeout_s)
