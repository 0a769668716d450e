"""A rubric while it is written: each criterion comes as soon as its line is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rubricrm.generation.closing import Closing
from rubricrm.generation.result import RubricResult
from rubricrm.generation.text_stream import TextStream
from rubricrm.rubric.held_form import out_of_grammar, with_form_checked
from rubricrm.rubric.rubric import Criterion, RubricReader, parse


@dataclass(frozen=True)
class StreamEvent:
    """What one step brought: a piece of text, and the criteria whose lines it completed (mostly none).

    Attributes:
        text: The piece.
        criteria: The criteria.
        takes_back: Whether the criteria of all earlier events turned out to be part of a thought.
    """

    text: str
    criteria: tuple[Criterion, ...] = ()
    takes_back: bool = False


class RubricStream(Closing):
    """Iterates over events while a rubric is generated; `result` holds the outcome afterwards.

    The texts of the events, joined, are `result().text`. Their criteria, in a row from the last event on that takes
    back, are `result().rubric.criteria`, unless the stream was closed before its end. Otherwise as `TextStream`: it is
    a context manager, several threads may read it, and a slow reader delays nobody.

    Example:
        >>> with model.stream("Write a haiku about rain.") as stream:
        ...     for event in stream:
        ...         for criterion in event.criteria:
        ...             print(criterion.kind, criterion.text)
        >>> result = stream.result()
    """

    def __init__(
        self, request: str, text: TextStream, model: Mapping[str, str], *, starts_in_thought: bool = False
    ) -> None:
        self._request = request
        self._text = text
        self._model = model
        self._starts_in_thought = starts_in_thought
        self._reader = RubricReader(starts_in_thought=starts_in_thought)
        self._num_taken_back = 0
        self._is_over = False

    def __iter__(self) -> Iterator[StreamEvent]:
        return self

    def __next__(self) -> StreamEvent:
        with self._text.turn():  # so that the parser gets the pieces in their order
            if self._is_over:
                raise StopIteration
            piece = next(self._text, None)
            try:
                return self._last_event() if piece is None else self._event(piece, self._reader.feed(piece))
            except BaseException:  # an interrupt may have cost the parser a piece
                self.close()
                raise

    def wait(self) -> None:
        """Wait for the end; errors as `TextStream.wait`."""
        self._text.wait()

    def is_ready(self) -> bool:
        """As `TextStream.is_ready`."""
        return self._text.is_ready()

    def on_change(self, call: Callable[[], object]) -> None:
        """As `TextStream.on_change`."""
        self._text.on_change(call)

    def on_end(self, call: Callable[[], object]) -> None:
        """As `TextStream.on_end`."""
        self._text.on_end(call)

    def cancel(self) -> None:
        """End now. Safe from any thread; a reader gets what was written before, and then the end."""
        self._text.cancel()

    def close(self) -> None:
        """End now. Safe from any thread; closing twice is fine."""
        self._is_over = True
        self._text.close()

    def result(self) -> RubricResult:
        """Return the rubric of what was generated; ends the generation if it is still running."""
        self.close()
        text = self._text.result()
        is_cut = text.finish_reason != "stop"
        rubric = parse(text.text, truncated=is_cut, starts_in_thought=self._starts_in_thought)
        if self._text.is_held_elsewhere:
            rubric = with_form_checked(rubric, text.text, is_cut=is_cut or self._text.has_stop_strings)
        if text.unconstrained and (line := self._text.line_out_of_grammar) is not None:
            rubric = out_of_grammar(rubric, text.text, line)
        return RubricResult(
            request=self._request,
            text=text.text,
            rubric=rubric,
            finish_reason=text.finish_reason,
            usage=text.usage,
            timings_ms=text.timings_ms,
            seed=text.seed,
            logprobs=text.logprobs,
            grammar_overrules=self._text.overrules,
            model=self._model,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text!r})"

    def _last_event(self) -> StreamEvent:
        self._is_over = True
        last, _ = self._reader.finish(truncated=self._text.result().finish_reason != "stop")
        event = self._event("", last)
        if not (event.criteria or event.takes_back):
            raise StopIteration
        return event

    def _event(self, piece: str, criteria: list[Criterion]) -> StreamEvent:
        num_before, self._num_taken_back = self._num_taken_back, self._reader.num_taken_back
        return StreamEvent(piece, tuple(criteria), self._num_taken_back > num_before)
