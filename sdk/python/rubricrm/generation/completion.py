"""A generation as text: whole characters, stop strings, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from rubricrm.generation.engine import Engine, Generation
from rubricrm.generation.sampling import TokenLogprobs
from rubricrm.generation.stop_strings import StopStrings
from rubricrm.runtime.tokenizer import Tokenizer


@dataclass(frozen=True)
class Usage:
    """Tokens of one generation. The end token is not counted."""

    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Timings:
    """Milliseconds on one clock.

    Attributes:
        tokenize: Text to prompt ids.
        prefill: Restoring the prefix and computing the rest of the prompt; 0 if the generation ended before.
        first_token: From the call to the first token, tokenizing and waiting for other requests included.
        decode: From the first token to the end.
        total: From the call to the end.
    """

    tokenize: float
    prefill: float
    first_token: float | None
    decode: float
    total: float


@dataclass(frozen=True)
class TextResult:
    """A finished generation.

    Attributes:
        text: What was generated, without end token and stop string.
        finish_reason: "stop", "length", "cancelled" or "timeout".
        usage: Tokens.
        timings_ms: Milliseconds.
        seed: The seed that was used; with it the same call gives the same text.
        logprobs: One entry a token where they were asked for, else None.
    """

    text: str
    finish_reason: str
    usage: Usage
    timings_ms: Timings
    seed: int
    logprobs: tuple[TokenLogprobs, ...] | None


class TextStream:
    """Iterates over pieces of text while they are generated; `result` holds the outcome afterwards.

    Pieces are whole characters, never empty, and joined they are `result().text`. Leaving the iteration early, or
    `close`, ends the generation with finish_reason "cancelled" and frees what it held.
    """

    def __init__(self, engine: Engine, generation: Generation, tokenizer: Tokenizer) -> None:
        self._engine = engine
        self._generation = generation
        self._tokenizer = tokenizer
        self._tokenized = time.perf_counter()
        self._first_token: float | None = None
        self._ended: float | None = None
        self._text: list[str] = []
        self._logprobs: list[TokenLogprobs] = []
        self._pieces = self._generate()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            piece = next(self._pieces)
        except BaseException:
            self._end()
            raise
        self._text.append(piece)
        return piece

    def cancel(self) -> None:
        """End before the next token. Safe from any thread; the iteration then ends by itself."""
        self._generation.cancel()

    def close(self) -> None:
        """End now. Closing twice is fine."""
        self._pieces.close()
        self._end()

    def result(self) -> TextResult:
        """Return what was generated; ends the generation if it is still running."""
        self.close()
        generation, ended = self._generation, self._ended or time.perf_counter()
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

    def _generate(self) -> Generator[str, None, None]:
        decoder = self._tokenizer.text_decoder()
        stops = StopStrings(self._generation.options.stop)
        for token in self._engine.stream(self._generation):
            self._first_token = self._first_token or time.perf_counter()
            if token.logprobs is not None:
                self._logprobs.append(token.logprobs)
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
        self._ended = self._ended or time.perf_counter()
        self._generation.finish("cancelled")


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1e3, 3)
