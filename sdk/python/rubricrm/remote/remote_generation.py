"""A generation that a server computes: its pieces come from outside, its deadline and its ends are ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rubricrm.generation.generation import Generation
from rubricrm.generation.held_text import line_out_of_grammar
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.repetition import RepetitionDetector
from rubricrm.generation.result import Usage
from rubricrm.generation.sampling import TokenLogprobs
from rubricrm.generation.stop_strings import StopStrings
from rubricrm.remote.completion_chunk import CompletionChunk
from rubricrm.runtime.tokenizer import Tokenizer


class RemoteGeneration(Generation):
    """A prompt that was sent to a server, and the text that came back.

    Stop strings and circles are looked for here too: no server knows this package's rule for circles, and one that
    ignores a stop string is not seen otherwise.
    """

    def __init__(
        self,
        prompt_ids: list[int],
        options: GenerationOptions,
        tokenizer: Tokenizer,
        *,
        is_held: bool,
        cancel: threading.Event | None,
        started: float,
    ) -> None:
        """Describe a generation.

        Args:
            prompt_ids: The prompt.
            options: Checked.
            tokenizer: Makes tokens of pieces whose tokens the server does not tell.
            is_held: Whether the text must have a form.
            cancel: Setting it ends the generation before its next token.
            started: When the request came in.
        """
        super().__init__(prompt_ids, options, cancel=cancel, started=started)
        self.is_held_elsewhere = is_held
        self._tokenizer = tokenizer
        self._stops = StopStrings(options.stop)
        self._detector = RepetitionDetector(tokenizer.token_bytes) if options.stop_on_repetition else None
        self._num_tokens = 0
        self._counted: Mapping[str, Any] = {}

    @property
    def usage(self) -> Usage:
        """The tokens as the server counts them; while it has not, those of the text as they came, or as they encode."""
        prompt, completion = self._counted.get("prompt_tokens"), self._counted.get("completion_tokens")
        details = self._counted.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
        return Usage(
            prompt_tokens=prompt if type(prompt) is int else len(self.prompt_ids),
            cached_prompt_tokens=cached if type(cached) is int else 0,
            completion_tokens=completion if type(completion) is int else self._num_tokens,
        )

    @property
    def line_out_of_grammar(self) -> int | None:
        """As of `Generation`. Whole is a text that the model has ended."""
        grammar = self.options.grammar
        if grammar is None:
            return None
        is_cut = self.finish_reason != "stop" or self._stops.found is not None
        return line_out_of_grammar("".join(self.pieces), grammar, self._tokenizer, is_cut=is_cut)

    def take(self, chunk: CompletionChunk) -> bool:
        """Take what an event says of text and tokens; return whether more is wanted."""
        if chunk.usage is not None:
            self._counted = chunk.usage
        if chunk.text or chunk.token_ids or chunk.logprobs:
            self._push(chunk.text, chunk.token_ids, chunk.logprobs)
        return not self.is_finished

    def _push(self, text: str, token_ids: Sequence[int] | None, logprobs: Sequence[TokenLogprobs]) -> None:
        """Take a piece; nothing if the generation has ended meanwhile."""
        with self._lock:
            if self.is_finished:
                return
            self.first_token = self.first_token or time.perf_counter()
            ids = self._tokenizer.encode(text) if token_ids is None else token_ids
            self._num_tokens += len(ids)
            self.logprobs += logprobs
            goes_in_circles = self._detector is not None and any(map(self._detector.push, ids))
            if piece := self._stops.push(text):
                self.pieces.append(piece)
            if self._stops.found is not None:
                self._finish("stop")
            elif goes_in_circles:
                self._finish("repetition")
        self._tell()

    def _finish(self, reason: str) -> None:
        if piece := self._stops.finish():
            self.pieces.append(piece)
        super()._finish("stop" if self._stops.found is not None else reason)
