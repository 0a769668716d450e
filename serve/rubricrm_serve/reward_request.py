"""The body of POST /get_reward, OpenRLHF's protocol."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from rubricrm_serve.refusal import Refusal
from rubricrm_serve.request_fields import RequestFields, refused

# Special tokens that end an answer: OpenRLHF decodes them with it.
_END = re.compile(r"(?:\s*(?:<\|[\w-]+\|>|</s>|<eos>|<end_of_turn>))+\s*\Z")
_MOST = 64
Texts = Annotated[list[str], Field(min_length=1, max_length=_MOST)]


@dataclass(frozen=True)
class RewardSample:
    """An answer to score.

    Attributes:
        request: What was asked.
        answer: The policy's answer.
        reference: The answer to compare it with.
        rubric: To judge by, or None.
    """

    request: str
    answer: str
    reference: str
    rubric: str | None


class RewardRequest(RequestFields):
    """Prompts, the same with their answers, and labels.

    A label is an object, or its JSON text, with `request`, `reference` and, where wanted, `rubric`: a prompt as a
    policy's template writes it does not tell what was asked.
    """

    query: Texts
    prompts: Texts
    labels: Annotated[list[str | dict[str, Any]], Field(min_length=1, max_length=_MOST)]

    @model_validator(mode="after")
    def _refuse_other_lengths(self) -> Self:
        if not len(self.query) == len(self.prompts) == len(self.labels):
            raise refused("query", "query, prompts and labels must be of one length.")
        return self

    def samples(self) -> list[RewardSample]:
        """Return what is to be scored.

        Raises:
            Refusal: A label lacks something, or a query does not begin with its prompt.
        """
        together = zip(self.query, self.prompts, self.labels, strict=True)
        return [_sample(f"[{index}]", *each) for index, each in enumerate(together)]


def _sample(where: str, query: str, prompt: str, label: str | dict[str, Any]) -> RewardSample:
    if not query.startswith(prompt):
        raise Refusal(400, f"query{where}: does not begin with prompts{where}.", param="query")
    facts = _facts(label)
    names = ("request", "reference", "rubric")
    request, reference, rubric = (facts.get(name) for name in names)
    if not (isinstance(request, str) and isinstance(reference, str) and isinstance(rubric, str | None)):
        message = f"labels{where}: expected an object with request, reference and maybe rubric, all of them texts."
        raise Refusal(400, message, param="labels")
    return RewardSample(request, _END.sub("", query[len(prompt) :]), reference, rubric)


def _facts(label: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(label, dict):
        return label
    try:
        found = json.loads(label)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
