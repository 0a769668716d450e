"""The body of POST /v1/rubrics."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from rubricrm.generation.options import GenerationOptions

from rubricrm_serve.request_fields import Probability, RequestFields, Seed, StopTexts, Temperature, Tokens, TopLogprobs


class RubricRequest(RequestFields):
    """A request, and the SDK's options by their own names."""

    request: Annotated[str, Field(min_length=1, description="What a user asked some assistant to do.")]
    model: str | None = None
    stream: bool = False
    max_new_tokens: Tokens | None = None
    temperature: Temperature = 0.0
    top_k: Annotated[int, Field(ge=0, le=1 << 31)] = 0
    top_p: Probability = 1.0
    min_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    seed: Seed | None = None
    stop: Annotated[StopTexts, Field(default_factory=list)]
    logprobs: TopLogprobs | None = None
    timeout_s: Annotated[float | None, Field(gt=0, le=86400, allow_inf_nan=False)] = None
    stop_on_repetition: bool = True
    constrain: bool = True

    def options(self, longest_s: float) -> GenerationOptions:
        """Return the options; the server's limit of time holds too."""
        given = self.model_dump(include=_OPTIONS)
        timeout_s = longest_s if self.timeout_s is None else min(self.timeout_s, longest_s)
        return GenerationOptions(**given, timeout_s=timeout_s)


_OPTIONS = {
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "stop",
    "logprobs",
    "stop_on_repetition",
    "constrain",
}
