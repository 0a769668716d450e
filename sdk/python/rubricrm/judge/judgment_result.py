"""A judgment with what it cost, and its stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rubricrm.generation.closing import Closing
from rubricrm.generation.result import SCHEMA_VERSION, Timings, Usage
from rubricrm.generation.text_stream import TextStream
from rubricrm.judge.judgment import Judgment, parse_judgment


@dataclass(frozen=True)
class JudgmentResult:
    """One sample of a judge.

    Attributes:
        judgment: The answer that its text names, or why it names none; the text itself.
        finish_reason: As in `TextResult`; after all but "stop" the text is cut, and names no winner.
        usage: Tokens.
        timings_ms: Milliseconds.
        seed: The seed that was used; with it the same call gives the same text.
        model: Name, weights, device, kernels and manifest hash of the judge.
    """

    judgment: Judgment
    finish_reason: str
    usage: Usage
    timings_ms: Timings
    seed: int
    model: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the version of their schema."""
        return {
            "schema_version": SCHEMA_VERSION,
            "judgment": self.judgment.to_dict(),
            "finish_reason": self.finish_reason,
            "usage": asdict(self.usage),
            "timings_ms": asdict(self.timings_ms),
            "seed": self.seed,
            "model": dict(self.model),
        }


class JudgmentStream(Closing):
    """A judgment while it is written: iterates over pieces of its text; `result` reads the winner. As `TextStream`."""

    def __init__(self, text: TextStream, model: Mapping[str, str], *, starts_in_thought: bool = False) -> None:
        """Read a text; arguments as the attributes of `JudgmentResult`, and as in `parse_judgment`."""
        self._text = text
        self._model = model
        self._starts_in_thought = starts_in_thought

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._text)

    def wait(self) -> None:
        """Wait for the end; errors as `TextStream.wait`."""
        self._text.wait()

    def on_end(self, call: Callable[[], object]) -> None:
        """As `TextStream.on_end`."""
        self._text.on_end(call)

    def cancel(self) -> None:
        """End now. Safe from any thread."""
        self._text.cancel()

    def close(self) -> None:
        """End now. Safe from any thread; closing twice is fine."""
        self._text.close()

    def result(self) -> JudgmentResult:
        """Return the judgment of what was written; ends the generation if it is still running."""
        text = self._text.result()
        is_cut = text.finish_reason != "stop"
        judgment = parse_judgment(text.text, truncated=is_cut, starts_in_thought=self._starts_in_thought)
        return JudgmentResult(judgment, text.finish_reason, text.usage, text.timings_ms, text.seed, self._model)
