"""What the bodies of requests have in common: fields that are read, and fields that are refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from rubricrm.generation.options import MAX_LOGPROBS, GenerationOptions

MOST_CHOICES = 16
StopText = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
StopTexts = Annotated[list[StopText], Field(max_length=16)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Tokens = Annotated[int, Field(ge=1, le=1 << 31)]
Temperature = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
TopLogprobs = Annotated[int, Field(ge=0, le=MAX_LOGPROBS)]

# Fields of OpenAI and vLLM that say nothing about the text.
_IGNORED = frozenset(("user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"))
# Fields that are not supported, with the values that ask for nothing.
_OFF: dict[str, tuple[Any, ...]] = {
    "add_special_tokens": (False,),
    "audio": (),
    "best_of": (1,),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "ignore_eos": (False,),
    "logit_bias": ({},),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "store": (False,),
    "structured_outputs": (),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}


class RequestFields(BaseModel):
    """A body. An unknown field is refused by name: an option that is dropped without a word is worse than an error.

    Of what OpenAI and vLLM know and this server does not, a value that asks for nothing is taken.
    """

    model_config = ConfigDict(extra="allow", strict=True, json_schema_extra={"additionalProperties": False})

    @model_validator(mode="after")
    def _refuse_others(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if name in _IGNORED or (name in _OFF and (value is None or value in _OFF[name])):
                continue
            why = "is not supported here. Leave it out." if name in _OFF else "is no field of this request."
            raise refused(name, why)
        return self


class ModelFields(RequestFields):
    """Fields that name the model."""

    model: Annotated[str, Field(description="One of the ids that GET /v1/models lists.")]


class StreamOptions(BaseModel):
    """OpenAI's options of a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = None
    continuous_usage_stats: Annotated[bool | None, Field(description="Must not be true.")] = None
    include_obfuscation: Annotated[bool | None, Field(description="Nothing is obfuscated.")] = None


class SamplingFields(ModelFields):
    """Fields of both kinds of OpenAI's completions. The defaults are greedy, whatever OpenAI's are."""

    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_k: Annotated[int | None, Field(ge=-1, le=1 << 31, description="0 and -1: all.")] = None
    min_p: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    seed: Seed | None = None
    stop: StopText | StopTexts | None = None
    n: Annotated[int | None, Field(ge=1, le=MOST_CHOICES)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def num_choices(self) -> int:
        """How many texts are asked for."""
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if self.num_choices > 1 and not self.temperature:
            raise refused("n", "greedy texts are all the same. Give a temperature above 0, or leave it out.")
        if self.stream_options is not None and not self.stream:
            raise refused("stream_options", "is for streams. Set stream, or leave it out.")
        if self.stream_options is not None and self.stream_options.continuous_usage_stats:
            raise refused("stream_options.continuous_usage_stats", "is not supported here. Leave it out.")
        return self

    def options(self, *, logprobs: int | None, max_tokens: int | None, timeout_s: float) -> list[GenerationOptions]:
        """Return the options of each choice: with a seed, those after the first count on from it."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [
            GenerationOptions(
                max_new_tokens=max_tokens,
                temperature=self._temperature(),
                top_k=max(0, self.top_k or 0),
                top_p=1.0 if self.top_p is None else self.top_p,
                min_p=self.min_p or 0.0,
                seed=None if self.seed is None else (self.seed + index) % (1 << 64),
                stop=stop,
                logprobs=logprobs,
                timeout_s=timeout_s,
            )
            for index in range(self.num_choices)
        ]

    def _temperature(self) -> float:
        """Return the temperature: what is below the least one of the SDK is as good as greedy."""
        return 0.0 if self.temperature is None or self.temperature < 0.001 else float(self.temperature)


def refused(field: str, why: str) -> PydanticCustomError:
    """Return what a validator raises to refuse a field."""
    return PydanticCustomError("refused_field", "{field}: {why}", {"field": field, "why": why})
