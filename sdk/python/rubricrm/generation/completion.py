"""Tokens to text while they are decided: whole characters, stop strings, an end to circles."""

from __future__ import annotations

from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.repetition import RepetitionDetector
from rubricrm.generation.stop_strings import StopStrings
from rubricrm.runtime.tokenizer import Tokenizer


class Completion:
    """The text of one sequence."""

    def __init__(self, tokenizer: Tokenizer, options: GenerationOptions) -> None:
        self._decoder = tokenizer.text_decoder()
        self._stops = StopStrings(options.stop)
        self._detector = RepetitionDetector(tokenizer.token_bytes) if options.stop_on_repetition else None

    def push(self, token_id: int) -> tuple[str, str | None]:
        """Take a token; return the text that is certain now, and why the sequence must end, if it must."""
        goes_in_circles = self._detector is not None and self._detector.push(token_id)
        piece = self._stops.push(self._decoder.push(token_id))
        reason = "stop" if self._stops.found is not None else "repetition" if goes_in_circles else None
        return piece, reason

    def finish(self, *, is_whole: bool) -> tuple[str, bool]:
        """Return the text that was held back, and whether a stop string ended it.

        Args:
            is_whole: Whether the model itself ended it. Else a character that the end cut in half is dropped.
        """
        if self._stops.found is not None:
            return "", True
        piece = self._stops.push(self._decoder.finish() if is_whole else "") + self._stops.finish()
        return piece, self._stops.found is not None
