"""A generation as its reader sees it: pieces of text while they are written, and the result."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from rubricrm.errors import StreamBusy
from rubricrm.generation.closing import Closing
from rubricrm.generation.constraint import Overrules
from rubricrm.generation.generation import Generation
from rubricrm.generation.result import TextResult, Timings


class TextStream(Closing):
    """Iterates over pieces of text while they are generated; `result` holds the outcome afterwards.

    Pieces are whole characters, never empty, and joined they are `result().text`, unless the stream was left early.
    The text is written whether it is read or not: a slow reader delays nobody. Leaving the iteration early, the end of
    a `with` block, or `close` ends the generation with finish_reason "cancelled", unless it had ended before. Several
    threads may read one stream: each piece goes to one of them.

    Example:
        >>> with model.stream_text("Name three colors.") as stream:
        ...     for piece in stream:
        ...         print(piece, end="")
        >>> stream.result().finish_reason
        'stop'
    """

    def __init__(self, generation: Generation, tokenized: float) -> None:
        """Read a generation; `tokenized` is when its prompt was encoded."""
        self._generation = generation
        self._tokenized = tokenized
        self._num_read = 0
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._is_reading = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        with self.turn():
            if self._is_reading and self._process == os.getpid():  # in a fork, the reader does not exist
                raise StreamBusy("the stream is waiting for its next piece in this very thread. Read it elsewhere.")
            self._is_reading = True
            pieces = self._generation.pieces
            try:
                self._generation.wait(lambda: len(pieces) > self._num_read)
            except BaseException:  # Ctrl-C: nobody reads on
                self.close()
                raise
            finally:
                self._is_reading = False
            if len(pieces) == self._num_read:
                self._generation.raise_error()
                raise StopIteration
            self._num_read += 1
            return pieces[self._num_read - 1]

    def wait(self) -> None:
        """Wait for the end.

        Raises:
            RubricrmError: What the generation failed with.
        """
        try:
            self._generation.wait()
        except BaseException:
            self.close()
            raise
        self._generation.raise_error()

    def is_ready(self) -> bool:
        """Whether the next piece, or the end, is there."""
        return len(self._generation.pieces) > self._num_read or self._generation.is_finished

    def on_change(self, call: Callable[[], object]) -> None:
        """Have a function called whenever there may be more, and at the end; as `Generation.listen`."""
        self._generation.listen(call)

    def on_end(self, call: Callable[[], object]) -> None:
        """Have a function called once, at the end; as `Generation.listen`."""
        calls = iter((call,))
        self._generation.listen(lambda: next(calls, _nothing)() if self._generation.is_finished else None)

    def cancel(self) -> None:
        """End now. Safe from any thread; a reader gets what was written before, and then the end."""
        self._generation.finish("cancelled")

    def close(self) -> None:
        """End now. Safe from any thread; closing twice is fine."""
        self.cancel()

    def result(self) -> TextResult:
        """Return what was generated; ends the generation if it is still running."""
        self.close()
        generation = self._generation
        ended = generation.ended or generation.started
        first, prefilled, admitted = generation.first_token, generation.prefilled, generation.admitted
        timings = Timings(
            tokenize=_ms(generation.started, self._tokenized),
            prefill=0.0 if admitted is None or prefilled is None else _ms(admitted, prefilled),
            first_token=None if first is None else _ms(generation.started, first),
            decode=0.0 if first is None else _ms(first, ended),
            total=_ms(generation.started, ended),
        )
        return TextResult(
            text="".join(generation.pieces),
            finish_reason=generation.finish_reason or "cancelled",
            usage=generation.usage,
            timings_ms=timings,
            seed=generation.seed,
            logprobs=None if generation.options.logprobs is None else tuple(generation.logprobs),
            unconstrained=generation.line_out_of_grammar is not None,
        )

    @property
    def overrules(self) -> Overrules | None:
        """What a constraint has overruled; None where there is none, or nobody says."""
        return self._generation.overrules

    @property
    def is_held_elsewhere(self) -> bool:
        """As of `Generation`."""
        return self._generation.is_held_elsewhere

    @property
    def line_out_of_grammar(self) -> int | None:
        """As of `Generation`."""
        return self._generation.line_out_of_grammar

    @property
    def has_stop_strings(self) -> bool:
        """Whether a string may end the text anywhere."""
        return bool(self._generation.options.stop)

    def __del__(self) -> None:
        if os.getpid() == self._process:  # nobody can read what is still to come
            self.cancel()

    def __repr__(self) -> str:
        generation = self._generation
        state = generation.finish_reason or generation.status
        return f"{type(self).__name__}({state}, {generation.usage.completion_tokens} tokens)"

    def turn(self) -> AbstractContextManager[object]:
        """Return a lock that the readers of this stream, and what belongs to a piece, take turns with."""
        # In a fork, a thread that does not exist there may hold the lock.
        return self._lock if self._process == os.getpid() else nullcontext()


def _nothing() -> None:
    pass


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1e3, 3)
