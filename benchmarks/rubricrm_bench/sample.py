"""One request as its sender saw it, on one clock."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from rubricrm.generation.result import RubricResult, TextResult
from rubricrm.model import RubricModel

_MS = 1000.0


@dataclass(frozen=True)
class Sample:
    """Times of one request.

    Attributes:
        ttft_ms: From the call, with its text, to the first token: tokenizing, waiting and prefill included.
        e2e_ms: From the call to the last token.
        tpot_ms: (e2e_ms - ttft_ms) / (new_tokens - 1): a token after the first; None for fewer than two.
        first_criterion_ms: From the call to the first whole criterion; None where the text has none.
        prefill_ms: Restoring the prefix and computing the rest of the prompt; None: a server does not tell.
        prompt_tokens: Of these `cached_tokens` were restored; None: the server does not tell.
        new_tokens: Generated, the end token not counted; on a server as it counts them.
        drafted_tokens, accepted_tokens: Drafted and verified, and those of them that came true; None: a server does
            not tell.
        overrules: How often the form of a rubric overruled the model; None as above.
        text: What was generated.
    """

    ttft_ms: float | None
    e2e_ms: float
    tpot_ms: float | None
    first_criterion_ms: float | None
    prefill_ms: float | None
    prompt_tokens: int
    cached_tokens: int | None
    new_tokens: int
    drafted_tokens: int | None
    accepted_tokens: int | None
    overrules: int | None
    text: str

    @classmethod
    def of(
        cls,
        model: RubricModel,
        result: RubricResult | TextResult,
        first_criterion_ms: float | None = None,
        overrules: int = 0,
    ) -> Sample:
        """Make a sample of what the SDK measured; zeros that stand for what a server does not tell are left out."""
        usage, timings = result.usage, result.timings_ms
        served = model.capabilities
        count, first = usage.completion_tokens, timings.first_token
        tpot = None if first is None or count < 2 else (timings.total - first) / (count - 1)
        return cls(
            ttft_ms=first,
            e2e_ms=timings.total,
            tpot_ms=tpot,
            first_criterion_ms=first_criterion_ms,
            prefill_ms=None if served else timings.prefill,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=None if served and not served.cached_tokens else usage.cached_prompt_tokens,
            new_tokens=count,
            drafted_tokens=None if served else usage.drafted_tokens,
            accepted_tokens=None if served else usage.accepted_tokens,
            overrules=None if served else overrules,
            text=result.text,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        return asdict(self)


def run_request(model: RubricModel, request: str) -> Sample:
    """Let a model write the rubric of a request."""
    started = time.perf_counter()
    stream = model.stream(request)
    first_criterion = None
    for event in stream:
        if event.criteria and first_criterion is None:
            first_criterion = (time.perf_counter() - started) * _MS
    result = stream.result()
    overrules = 0 if result.grammar_overrules is None else result.grammar_overrules.count
    return Sample.of(model, result, first_criterion, overrules)


def run_shape(model: RubricModel, message: str, new_tokens: int) -> Sample:
    """Let a model answer a message, without the rubric template, with so many tokens, whatever they are."""
    result = model.generate_text(message, max_new_tokens=new_tokens, stop_on_repetition=False)
    return Sample.of(model, result)
