"""A bundle that answers requests, and leaves nothing in the machine's cache: it may be gone in a minute."""

from __future__ import annotations

from typing import Self

from rubricrm.generation.engine import Engine
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prefix import compute_prefix
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer


class RequestWriter:
    """An open bundle; a context manager.

    Attributes:
        prefix: Ids that begin every prompt. Their keys and values are computed once, and not kept.
        tokenizer: The bundle's.
    """

    def __init__(self, bundle: Bundle, *, device: str | None = None, threads: int | None = None) -> None:
        """Open it. Arguments and errors as `Session`."""
        facts = bundle.manifest
        self.tokenizer = Tokenizer.from_file(bundle.file(facts.tokenizer.file))
        self._prompt = Prompt(facts.prompt, facts.chat, self.tokenizer)
        self.prefix = self._prompt.fixed_prefix()
        session = Session(bundle, device=device, threads=threads)
        self._engine = Engine(session, facts, compute_prefix(session, self.prefix) if self.prefix else None)

    def write(self, request: str, options: GenerationOptions) -> tuple[list[int], list[int], bool]:
        """Return the prompt's ids, those that were written, and whether the model ended by itself.

        Raises:
            RequestInvalid: The vocabulary cannot hold the request.
            PromptTooLong: The context cannot.
        """
        prompt_ids = self._prompt.encode_request(request)
        sequence = self._engine.submit(prompt_ids, options)
        sequence.wait()
        sequence.raise_error()
        return prompt_ids, sequence.token_ids, sequence.finish_reason == "stop"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()
