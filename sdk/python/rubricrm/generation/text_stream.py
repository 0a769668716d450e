"""A generation as its reader sees it: pieces of text while they are written, and the result."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from rubricrm.errors import StreamBusy
from rubricrm.generation.closing import Closing
from rubricrm.generation.constraint import Overrules
from rubricrm.generation.result import TextResult, Timings, Usage
from rubricrm.generation.sequence import Sequence


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

    def __init__(self, sequence: Sequence, tokenized: float) -> None:
        """Read a sequence; `tokenized` is when its prompt was encoded."""
        self._sequence = sequence
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
            pieces = self._sequence.pieces
            try:
                self._sequence.wait(lambda: len(pieces) > self._num_read)
            except BaseException:  # Ctrl-C: nobody reads on
                self.close()
                raise
            finally:
                self._is_reading = False
            if len(pieces) == self._num_read:
                self._sequence.raise_error()
                raise StopIteration
            self._num_read += 1
            return pieces[self._num_read - 1]

    def wait(self) -> None:
        """Wait for the end.

        Raises:
            RubricrmError: What the generation failed with.
        """
        try:
            self._sequence.wait()
        except BaseException:
            self.close()
            raise
        self._sequence.raise_error()

    def is_ready(self) -> bool:
        """Whether the next piece, or the end, is there."""
        return len(self._sequence.pieces) > self._num_read or self._sequence.is_finished

    def on_change(self, call: Callable[[], object]) -> None:
        """Have a function called whenever there may be more, and at the end; as `Sequence.listen`."""
        self._sequence.listen(call)

    def on_end(self, call: Callable[[], object]) -> None:
        """Have a function called once, at the end; as `Sequence.listen`."""
        calls = iter((call,))
        self._sequence.listen(lambda: next(calls, _nothing)() if self._sequence.is_finished else None)

    def cancel(self) -> None:
        """End now. Safe from any thread; a reader gets what was written before, and then the end."""
        self._sequence.finish("cancelled")

    def close(self) -> None:
        """End now. Safe from any thread; closing twice is fine."""
        self.cancel()

    def result(self) -> TextResult:
        """Return what was generated; ends the generation if it is still running."""
        self.close()
        sequence = self._sequence
        ended = sequence.ended or sequence.started
        first, prefilled, admitted = sequence.first_token, sequence.prefilled, sequence.admitted
        timings = Timings(
            tokenize=_ms(sequence.started, self._tokenized),
            prefill=0.0 if admitted is None or prefilled is None else _ms(admitted, prefilled),
            first_token=None if first is None else _ms(sequence.started, first),
            decode=0.0 if first is None else _ms(first, ended),
            total=_ms(sequence.started, ended),
        )
        return TextResult(
            text="".join(sequence.pieces),
            finish_reason=sequence.finish_reason or "cancelled",
            usage=Usage(
                prompt_tokens=len(sequence.prompt_ids),
                cached_prompt_tokens=sequence.cached_tokens,
                completion_tokens=len(sequence.token_ids),
                drafted_tokens=sequence.drafted_tokens,
                accepted_tokens=sequence.accepted_tokens,
            ),
            timings_ms=timings,
            seed=sequence.seed,
            logprobs=None if sequence.options.logprobs is None else tuple(sequence.logprobs),
        )

    @property
    def overrules(self) -> Overrules | None:
        """What a constraint has overruled; None where there is none."""
        constraint = self._sequence.constraint
        return None if constraint is None else constraint.overrules

    def __del__(self) -> None:
        if os.getpid() == self._process:  # nobody can read what is still to come
            self.cancel()

    def __repr__(self) -> str:
        state = self._sequence.finish_reason or self._sequence.state.value
        return f"{type(self).__name__}({state}, {len(self._sequence.token_ids)} tokens)"

    def turn(self) -> AbstractContextManager[object]:
        """Return a lock that the readers of this stream, and what belongs to a piece, take turns with."""
        # In a fork, a thread that does not exist there may hold the lock.
        return self._lock if self._process == os.getpid() else nullcontext()


def _nothing() -> None:
    pass


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1e3, 3)
