"""What to measure: the options of `rubricrm bench`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rubricrm.errors import OptionInvalid
from rubricrm.served_model import ServedModel

# What a service level may limit: the keys of a sample without their unit.
SLO_KEYS = ("ttft", "tpot", "e2e", "first_criterion")
_MOST = 1_000_000


@dataclass(frozen=True)
class BenchJob:
    """The options of a benchmark.

    Attributes:
        model: The bundle to measure, or a model on a server.
        requests: A JSONL file of objects with `request`; None: built-in ones. Their rubrics end by themselves.
        prompt_tokens, new_tokens: Fixed shapes besides: each pair is a row whose prompts have exactly so many tokens
            and whose answers are exactly so long, end tokens or not. Both or neither.
        no_rubrics: Run the fixed shapes alone.
        draft: Let steps verify drafts. The requests of a row are few and come again, so phrases of their own answers
            are drafted: a bound of what drafts give, and no measure of new requests.
        concurrency: How many requests run at once; each value gives a row.
        warmup: Requests of each row that are run and not counted, in each opening.
        repeat: Requests of each row that are counted.
        openings: How many times the model is opened, and the rows run in turn; see `openings_of`.
        duration_s: Go on for so long instead of `repeat`; None: do not.
        device, threads: As in `RubricModel`.
        slo: Limits in milliseconds by `SLO_KEYS`: the goodput is the rate of requests that keep all of them.
        reference: A trusted bundle of the same checkpoint, whose rubrics must be those of this one; None: the bundle's
            own, computed without anything that makes it fast; of a server nothing is compared then.
    """

    model: Path | ServedModel
    requests: Path | None = None
    prompt_tokens: tuple[int, ...] = ()
    new_tokens: tuple[int, ...] = ()
    no_rubrics: bool = False
    draft: bool = False
    concurrency: tuple[int, ...] = (1,)
    warmup: int = 2
    repeat: int = 10
    openings: int = 3
    duration_s: float | None = None
    device: str | None = None
    threads: int | None = None
    slo: Mapping[str, float] = field(default_factory=dict)
    reference: Path | None = None

    def __post_init__(self) -> None:
        """Check what needs no bundle.

        Raises:
            OptionInvalid: A number is out of range, or one of a pair is missing.
        """
        for name in ("prompt_tokens", "new_tokens", "concurrency"):
            for value in getattr(self, name):
                _require(name, value, least=1)
        _require("warmup", self.warmup, least=0)
        _require("repeat", self.repeat, least=1)
        _require("openings", self.openings, least=1)
        self._check_shapes()
        self._check_server()
        if not self.concurrency:
            raise OptionInvalid("concurrency must hold a number. Leave it out for 1.")
        if self.duration_s is not None:
            _require_positive("duration", self.duration_s)
        for key, limit in self.slo.items():
            if key not in SLO_KEYS:
                raise OptionInvalid(f"slo knows {', '.join(SLO_KEYS)} in milliseconds, got {key!r}.")
            _require_positive(f"slo {key}", limit)

    def _check_shapes(self) -> None:
        if bool(self.prompt_tokens) != bool(self.new_tokens):
            raise OptionInvalid("--prompt-tokens and --new-tokens make shapes together. Pass both, or neither.")
        if self.no_rubrics and not self.prompt_tokens:
            raise OptionInvalid("--no-rubrics leaves nothing to measure. Pass --prompt-tokens and --new-tokens too.")

    def _check_server(self) -> None:
        """Refuse what has no effect on a server: options of an engine in this process."""
        if not isinstance(self.model, ServedModel):
            return
        if self.prompt_tokens:
            raise OptionInvalid(
                "--prompt-tokens and --new-tokens do not go with --server: it ends an answer at its model's own "
                "end tokens, so that no length can be fixed. Leave them out."
            )
        for name in ("device", "threads", "draft"):
            if getattr(self, name):
                raise OptionInvalid(f"--{name} has no effect with --server. Leave it out.")

    def openings_of(self, concurrency: int) -> int:
        """Return the openings that a row's requests are shared among: each keeps two for every one in flight."""
        if self.duration_s is not None:
            return self.openings
        return max(1, min(self.openings, self.repeat // (2 * concurrency)))

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Pairs of prompt and new tokens, each length with each."""
        return [(prompt, new) for prompt in self.prompt_tokens for new in self.new_tokens]


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise OptionInvalid(f"{name} must be a positive number, got {value}.")


def _require(name: str, value: int, *, least: int) -> None:
    if not least <= value <= _MOST:
        raise OptionInvalid(f"{name.replace('_', '-')} must be from {least} to {_MOST}, got {value}.")
