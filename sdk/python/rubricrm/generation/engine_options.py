"""How a model serves requests: what it takes on at once, and what it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from rubricrm.errors import OptionInvalid
from rubricrm.runtime.integer_option import check_integer

_MOST_TOGETHER = 128
_MOST_WAITING = 1 << 30
_MOST_BYTES = 1 << 60


class EngineKeywords(TypedDict, total=False):
    """The fields of EngineOptions as keyword arguments."""

    max_concurrency: int
    max_waiting: int
    max_memory: int | None
    keep_prompts: bool
    draft: bool
    keep_phrases: bool
    phrases: Path | str | bool


@dataclass(frozen=True)
class EngineOptions:
    """Options of one open model, for all of its requests.

    Attributes:
        max_concurrency: Most requests that are computed together, 1 to 128. Each has room for the model's whole
            context; memory is taken as tokens come, or at the first request by paged graphs on a GPU.
        max_waiting: Most requests that wait beside them; one more is refused with EngineBusy.
        max_memory: Most bytes of keys and values; None: whatever `max_concurrency` contexts take; of paged graphs
            2048 tokens for each and one whole context at least. Requests that do not fit beside others wait, and the
            context is cut to what fits.
        keep_prompts: Whether keys and values of a prompt are kept for the next one that begins alike. No result
            depends on it, but times do: False where nobody may learn from them what somebody else has asked.
        draft: Whether steps verify drafted tokens where that is quicker: from the form, the text so far, and phrases of
            earlier rubrics. No result depends on it, but times do. It is only done where results are the same to the
            last bit.
        keep_phrases: Whether phrases of finished rubrics are kept in memory, as long as the model is open, to draft
            later ones from. No result depends on it, but times do: False where nobody may learn from them what somebody
            else was answered.
        phrases: Where phrases of rubrics are read from at opening, and saved at closing: a file, or True for
            the bundle's own in the cache directory (what `rubricrm phrases` shows). False saves nothing.

    Raises:
        OptionInvalid: A value is out of range or of another type.
    """

    max_concurrency: int = 8
    max_waiting: int = 1000
    max_memory: int | None = None
    keep_prompts: bool = True
    draft: bool = True
    keep_phrases: bool = True
    phrases: Path | str | bool = False

    def __post_init__(self) -> None:
        """Check types and ranges."""
        for name in ("keep_prompts", "draft", "keep_phrases"):
            if type(getattr(self, name)) is not bool:
                raise OptionInvalid(f"{name} must be True or False, got {getattr(self, name)!r:.80}.")
        if not isinstance(self.phrases, Path | str | bool):
            raise OptionInvalid(f"phrases must be a path, True or False, got {self.phrases!r:.80}.")
        if self.phrases is not False and not self.keep_phrases:
            raise OptionInvalid("phrases are saved where they are kept. Leave out keep_phrases=False, or phrases.")
        check_integer("max_concurrency", self.max_concurrency, _MOST_TOGETHER)
        check_integer("max_waiting", self.max_waiting, _MOST_WAITING)
        if self.max_memory is not None:
            check_integer("max_memory", self.max_memory, _MOST_BYTES)
