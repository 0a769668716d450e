"""A generation as text: whole characters, stop strings, an end to circles, and what it cost."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

from rubricrm.errors import StreamBusy
from rubricrm.generation.engine import Engine, Generation
from rubricrm.generation.repetition import RepetitionDetector
from rubricrm.generation.result import TextResult, Timings, Usage
from rubricrm.generation.sampling import TokenLogprobs
from rubricrm.generation.stop_strings import StopStrings
from rubricrm.runtime.tokenizer import Tokenizer


class TextStream:
    """Iterates over pieces of text while they are generated; `result` holds the outcome afterwards.

    Pieces are whole characters, never empty, and joined they are `result().text`. A token is computed when its piece is
    asked for: while the reader does something else, nothing is generated and no time counts. Leaving the iteration
    early, the end of a `with` block, or `close` ends the generation with finish_reason "cancelled" and frees what it
    held. Several threads may read one stream: each piece goes to one of them.

    Example:
        >>> with model.stream_text("Name three colors.") as stream:
        ...     for piece in stream:
        ...         print(piece, end="")
        >>> stream.result().finish_reason
        'stop'
    """

    def __init__(self, engine: Engine, generation: Generation, tokenizer: Tokenizer) -> None:
        self._engine = engine
        self._generation = generation
        self._tokenizer = tokenizer
        self._tokenized = generation.now()
        self._first_token: float | None = None
        self._ended: float | None = None
        self._text: list[str] = []
        self._logprobs: list[TokenLogprobs] = []
        self._pieces = self._generate()
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._is_stepping = False
        generation.pause()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        with self.turn():
            if self._is_stepping:
                raise StreamBusy("the stream is computing its next piece in this very thread. Read it elsewhere.")
            self._is_stepping = True
            self._generation.resume()
            try:
                piece = next(self._pieces)
                self._text.append(piece)
            except BaseException:
                self._end()
                raise
            finally:
                self._generation.pause()
                self._is_stepping = False
        return piece

    def cancel(self) -> None:
        """End before the next token. Safe from any thread; the iteration then ends by itself."""
        self._generation.cancel()

    def close(self) -> None:
        """End now, after the step that another thread may be in. Safe from any thread; closing twice is fine."""
        self.cancel()
        with self.turn():
            if not self._is_stepping:  # else this thread was interrupted inside a step, which ends by itself
                self._pieces.close()
                self._end()

    def result(self) -> TextResult:
        """Return what was generated; ends the generation if it is still running."""
        self.close()
        generation, ended = self._generation, self._ended or self._generation.now()
        prefilled, first = generation.prefilled, self._first_token
        timings = Timings(
            tokenize=_ms(generation.started, self._tokenized),
            prefill=0.0 if prefilled is None else _ms(generation.prefill_started, prefilled),
            first_token=None if first is None else _ms(generation.started, first),
            decode=0.0 if first is None else _ms(first, ended),
            total=_ms(generation.started, ended),
        )
        return TextResult(
            text="".join(self._text),
            finish_reason=generation.finish_reason or "cancelled",
            usage=Usage(len(generation.prompt_ids), generation.cached_tokens, generation.num_tokens),
            timings_ms=timings,
            seed=generation.seed,
            logprobs=None if generation.options.logprobs is None else tuple(self._logprobs),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self._generation.finish_reason or "running"
        return f"{type(self).__name__}({state}, {self._generation.num_tokens} tokens)"

    def turn(self) -> AbstractContextManager[object]:
        """Return a lock that the steps of this stream, and what belongs to them, take turns with."""
        # In a fork, a thread that does not exist there may hold the lock.
        return self._lock if self._process == os.getpid() else nullcontext()

    def _generate(self) -> Generator[str, None, None]:
        decoder = self._tokenizer.text_decoder()
        stops = StopStrings(self._generation.options.stop)
        detector = RepetitionDetector(self._tokenizer.token_bytes)
        goes_in_circles = detector.push if self._generation.options.stop_on_repetition else _never
        for token in self._engine.stream(self._generation):
            self._first_token = self._first_token or self._generation.now()
            if token.logprobs is not None:
                self._logprobs.append(token.logprobs)
            if goes_in_circles(token.id):
                self._generation.finish("repetition")
            if piece := stops.push(decoder.push(token.id)):
                yield piece
            if stops.found is not None:
                self._generation.finish("stop")
                return
        # A character that the end of the completion cut in half is dropped, unless the model itself wrote it so.
        rest = decoder.finish() if self._generation.finish_reason == "stop" else ""
        piece = stops.push(rest) + stops.finish()
        if stops.found is not None:
            self._generation.finish("stop")
        if piece:
            yield piece

    def _end(self) -> None:
        self._ended = self._ended or self._generation.now()
        self._generation.finish("cancelled")


def _never(_: int) -> bool:
    return False


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1e3, 3)
