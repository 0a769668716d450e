"""The body of POST /get_reward, OpenRLHF's protocol."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from rubricrm_reward.openrlhf import samples_of
from rubricrm_reward.sample import RewardSample

from rubricrm_serve.request_fields import RequestFields, refused

_MOST = 64
Texts = Annotated[list[str], Field(min_length=1, max_length=_MOST)]


class RewardRequest(RequestFields):
    """Prompts, the same with their answers, and labels, as `rubricrm_reward.openrlhf` reads them."""

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
            RequestInvalid: A label lacks something, or a query does not begin with its prompt.
        """
        return samples_of({"query": self.query, "prompts": self.prompts, "labels": self.labels})
