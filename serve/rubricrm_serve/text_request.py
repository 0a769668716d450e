"""The body of POST /v1/completions."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator
from rubricrm.generation.options import GenerationOptions

from rubricrm_serve.request_fields import SamplingFields, TopLogprobs, refused

MOST_PROMPTS = 64
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
PromptText = Annotated[str, Field(min_length=1)]
PromptTexts = Annotated[list[PromptText], Field(min_length=1, max_length=MOST_PROMPTS)]
PromptIds = Annotated[list[TokenIds], Field(min_length=1, max_length=MOST_PROMPTS)]
OnePrompt: TypeAlias = str | list[int]


class TextRequest(SamplingFields):
    """What to continue, and how."""

    prompt: Annotated[
        PromptText | TokenIds | PromptTexts | PromptIds,
        Field(description="Text, whose control tokens are text too; or token ids; or a list of either."),
    ]
    logprobs: TopLogprobs | None = None
    form: Annotated[
        Literal["rubric"] | None,
        Field(description="Token ids are the prompt of a rubric: hold the text to the form of rubrics."),
    ] = None

    @model_validator(mode="after")
    def _refuse_logprobs(self) -> Self:
        if self.logprobs is not None and self.stream:
            raise refused("logprobs", "is not there in a stream. Leave out stream, or logprobs.")
        return self

    @model_validator(mode="after")
    def _refuse_form_of_texts(self) -> Self:
        if self.form is not None and any(isinstance(prompt, str) for prompt in self.prompts()):
            raise refused("form", "is for prompts of token ids. For a text, ask the model NAME-rubric.")
        return self

    def prompts(self) -> list[OnePrompt]:
        """Return the prompts, one or many."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(part, int) for part in self.prompt):
            return [[part for part in self.prompt if isinstance(part, int)]]
        return [part for part in self.prompt if not isinstance(part, int)]

    def all_options(self, timeout_s: float) -> list[GenerationOptions]:
        """Return the options of each choice of one prompt."""
        return self.options(logprobs=self.logprobs, max_tokens=self.max_tokens, timeout_s=timeout_s)
