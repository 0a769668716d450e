"""What every backend has whose generations run elsewhere: an event loop, a line of requests, and our own ends."""

from __future__ import annotations

import asyncio
import atexit
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from threading import Event
from typing import TYPE_CHECKING, Any

from rubricrm.errors import ModelClosed, OptionInvalid, PromptTooLong, RequestInvalid
from rubricrm.generation.capabilities import Capabilities
from rubricrm.generation.generation import Generation
from rubricrm.generation.options import GenerationOptions
from rubricrm.remote.loop_thread import LoopThread
from rubricrm.remote.remote_generation import RemoteGeneration
from rubricrm.remote.request_line import RequestLine
from rubricrm.remote.served_prompt import ServedPrompt

if TYPE_CHECKING:
    from rubricrm.generation.grammar import Grammar

_open_backends: weakref.WeakSet[LoopBackend] = weakref.WeakSet()


class LoopBackend(ABC):
    """A model that a server, or another engine of this process, computes: see `Backend`."""

    device: str
    capabilities: Capabilities | None

    def __init__(self, served: ServedPrompt, loop: LoopThread, *, max_concurrency: int, max_waiting: int) -> None:
        self._served = served
        self.prompt = served.prompt
        self.max_concurrency = max_concurrency
        self.context_length = served.bundle.manifest.model.context_length
        self.description: Mapping[str, str] = {}
        self._loop = loop
        self._line = RequestLine(loop, max_concurrency, max_waiting)
        self._form: str | None = None
        self._keeps_grammars = False
        self._trying = asyncio.Lock()
        _open_backends.add(self)

    @property
    def has_form(self) -> bool:
        """As of `Backend`."""
        return self._form is not None

    def start(
        self,
        prompt_ids: list[int],
        options: GenerationOptions,
        *,
        is_rubric: bool,
        cancel: Event | None,
        started: float,
    ) -> Generation:
        """As `Backend.start`."""
        self._loop.check_open()
        regex = None if options.grammar is None else self._regex(options.grammar)
        is_form = is_rubric and options.constrain and regex is None
        form = self._form if is_form else regex
        tokenizer = self.prompt.tokenizer
        is_held = is_form and self._served.has_form
        generation = RemoteGeneration(prompt_ids, options, tokenizer, is_held=is_held, cancel=cancel, started=started)
        self._line.add(generation, self._work(generation, self._room_after(prompt_ids, options), form))
        try:
            self._loop.check_open()  # again: `close` may have ended all generations meanwhile, and not this one
        except ModelClosed as error:
            generation.fail(error)
            raise
        return generation

    def close(self) -> None:
        """End every generation with ModelClosed, and what computes them. Closing twice is fine."""
        if not self._loop.is_of_this_process:  # whoever held the locks may not exist here
            return
        closed = ModelClosed("the model was closed. Open it again.")
        self._line.fail_all(closed)
        self._loop.stop(self._disconnect)
        self._line.fail_all(closed)

    @abstractmethod
    def _work(
        self, generation: RemoteGeneration, max_new_tokens: int, form: str | None
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        """Return what computes a generation to its end, whatever comes; wrong options are said at once."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Free what computes."""

    @abstractmethod
    async def _try_grammar(self) -> None:
        """Have a text written in a form that no model writes by itself; raise an error if it is not kept."""

    def _lacks_regex(self) -> str | None:
        """Return why no regular expression can be asked for; None: one can."""
        return None

    async def _require_grammars(self) -> None:
        """See that grammars are kept, before the first text that needs one: a server may drop them without a word."""
        async with self._trying:
            if not self._keeps_grammars:
                await self._try_grammar()
                self._keeps_grammars = True

    def _regex(self, grammar: Grammar) -> str:
        """Return the expression of a grammar.

        Raises:
            OptionInvalid: It cannot be asked for, or what comes could not be checked.
        """
        if (reason := self._lacks_regex()) is not None:
            raise OptionInvalid(f"grammar: {reason}. Leave it out, or open a bundle in this process.")
        pattern = getattr(grammar, "pattern", None)
        if pattern is None or grammar.num_tokens != self.prompt.tokenizer.num_tokens:
            raise OptionInvalid(
                "grammar: a server, or another engine, takes a regular expression, and this grammar holds none or is "
                "of another tokenizer. Make it by this model's compile_grammar(pattern)."
            )
        return str(pattern)

    def _room_after(self, prompt_ids: list[int], options: GenerationOptions) -> int:
        if not prompt_ids:
            raise RequestInvalid("the prompt has no tokens, expected at least one.")
        room = self.context_length - len(prompt_ids)
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {len(prompt_ids)} tokens, the context {self.context_length}: no room for a new token. "
                f"Shorten the request by at least {1 - room} tokens."
            )
        return min(room, options.max_new_tokens or self._served.bundle.manifest.generation.max_new_tokens)


@atexit.register
def _close_all() -> None:
    """Whoever waits must hear of the end."""
    for backend in list(_open_backends):
        backend.close()
