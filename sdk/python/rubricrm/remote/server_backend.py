"""The backend of a server: ids out, text back, and every way in which that may fail has a name."""

from __future__ import annotations

import asyncio
import atexit
import logging
import weakref
from collections.abc import Mapping
from threading import Event
from typing import Self

from rubricrm.errors import (
    ModelClosed,
    OptionInvalid,
    PromptTooLong,
    RequestInvalid,
    ServerError,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
    StreamBroken,
)
from rubricrm.generation.capabilities import Capabilities
from rubricrm.generation.generation import Generation
from rubricrm.generation.options import GenerationOptions
from rubricrm.remote.completion_chunk import CompletionChunk
from rubricrm.remote.completion_request import completion_request
from rubricrm.remote.connection import Identity, identify, try_out
from rubricrm.remote.loop_thread import LoopThread
from rubricrm.remote.remote_generation import RemoteGeneration
from rubricrm.remote.request_line import RequestLine
from rubricrm.remote.served_prompt import ServedPrompt
from rubricrm.remote.server_address import ServerAddress
from rubricrm.remote.server_client import ServerClient
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.integer_option import check_integer
from rubricrm.runtime.manifest import RUBRIC

logger = logging.getLogger(__name__)

_MOST_TOGETHER = 1000  # connections, which is what the openai package's pool has
_MOST_WAITING = 1 << 30
_MOST_RETRIES = 10

_open_backends: weakref.WeakSet[ServerBackend] = weakref.WeakSet()


class ServerBackend:
    """A model on a server: see `Backend`. Made by `connect`.

    Attributes:
        capabilities: What the server turned out to do.
    """

    device = "server"

    def __init__(
        self,
        served: ServedPrompt,
        loop: LoopThread,
        client: ServerClient,
        *,
        max_concurrency: int,
        max_waiting: int,
    ) -> None:
        """Take what `connect` has opened."""
        self._served = served
        self.prompt = served.prompt
        self.max_concurrency = max_concurrency
        self._loop = loop
        self._client = client
        self._line = RequestLine(loop, max_concurrency, max_waiting)
        self._identity: Identity
        self._form: str | None = None
        self.capabilities: Capabilities
        self.context_length = served.bundle.manifest.model.context_length
        self.description: Mapping[str, str] = {}
        self._answers_as: str | None = None
        self._is_in_doubt = False
        self._looking = asyncio.Lock()
        _open_backends.add(self)
        weakref.finalize(self, loop.stop, client.close).atexit = False  # who forgets to close leaves no thread

    @classmethod
    def connect(
        cls,
        url: str,
        bundle: Bundle,
        *,
        prompt_name: str = RUBRIC,
        model: str | None = None,
        api_key: str | None = None,
        dialect: str | None = None,
        constrain: bool = True,
        max_concurrency: int = 64,
        max_waiting: int = 1000,
        max_retries: int = 2,
    ) -> Self:
        """Look at a server, and return the backend of one of its models.

        Arguments and errors are those of `RubricModel.connect`; `prompt_name` says which of the bundle's prompts.
        """
        check_integer("max_concurrency", max_concurrency, _MOST_TOGETHER)
        check_integer("max_waiting", max_waiting, _MOST_WAITING)
        if type(max_retries) is not int or not 0 <= max_retries <= _MOST_RETRIES:
            raise OptionInvalid(f"max_retries must be an integer from 0 to {_MOST_RETRIES}, got {max_retries!r:.80}.")
        client = ServerClient(ServerAddress.of(url), api_key, max_retries)
        served = ServedPrompt.open(bundle, prompt_name)
        loop = LoopThread("rubricrm-server")
        backend = cls(served, loop, client, max_concurrency=max_concurrency, max_waiting=max_waiting)
        try:
            loop.run(backend._look(model, dialect, constrain=constrain))
        except BaseException:
            backend.close()
            raise
        return backend

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
        if options.grammar is not None:
            raise OptionInvalid(
                "grammar: a server takes the form of rubrics alone. Leave it out, or open a bundle in this process."
            )
        form = self._form if is_rubric and options.constrain else None
        tokenizer = self.prompt.tokenizer
        is_held = is_rubric and options.constrain and self._served.has_form
        generation = RemoteGeneration(prompt_ids, options, tokenizer, is_held=is_held, cancel=cancel, started=started)
        request = completion_request(
            self._identity.dialect,
            self._identity.model,
            prompt_ids,
            options,
            seed=generation.seed,
            max_new_tokens=self._room_after(prompt_ids, options),
            stop_ids=self._served.facts.stop_ids,
            grammar=form,
        )
        self._line.add(generation, lambda: self._compute(generation, request))
        try:
            self._loop.check_open()  # again: `close` may have ended all generations meanwhile, and not this one
        except ModelClosed as error:
            generation.fail(error)
            raise
        return generation

    def close(self) -> None:
        """End every generation with ModelClosed, and close the connections. Closing twice is fine."""
        if not self._loop.is_of_this_process:  # whoever held the locks may not exist here
            return
        closed = ModelClosed("the model was closed. Open it again.")
        self._line.fail_all(closed)
        self._loop.stop(self._client.close)
        self._line.fail_all(closed)

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

    async def _look(self, model: str | None, dialect: str | None, *, constrain: bool) -> None:
        """Find out who answers, and what it can do."""
        identity = await identify(self._client, self._served, model, dialect)
        self._identity = identity
        self.capabilities, self._form = await try_out(self._client, identity, self._served, constrain=constrain)
        self.context_length = self.capabilities.context_length
        self.description = {
            "name": identity.model,
            "server": self._client.address.shown,
            "dialect": identity.dialect.name,
            "manifest_sha256": self._served.bundle.manifest_sha256,
        }

    async def _compute(self, generation: RemoteGeneration, request: Mapping[str, object]) -> None:
        """Let the server write, and end the generation, whatever comes."""

        def take(chunk: CompletionChunk) -> bool:
            self._check_model(chunk)
            if chunk.usage is not None:
                generation.count(chunk.usage)
            if chunk.text or chunk.token_ids or chunk.logprobs:
                generation.push(chunk.text, chunk.token_ids, chunk.logprobs)
            return not generation.is_finished

        try:
            if self._is_in_doubt:
                await self._look_again()
            reason = await self._client.complete(request, take, generation.options.logprobs)
            generation.finish(reason or "cancelled")  # without a reason it has ended
        except ServerError as error:
            self._is_in_doubt |= isinstance(error, ServerUnreachable | StreamBroken)
            generation.fail(error)
        except Exception as error:
            logger.exception("a generation on a server failed")
            generation.fail(ServerFailed(f"{error!r:.200}. It is rubricrm's fault: please report it."))

    def _check_model(self, chunk: CompletionChunk) -> None:
        """Refuse a text of another model: the server may have been started again."""
        if self._answers_as is None:
            self._answers_as = chunk.model
        if chunk.model is not None and chunk.model != self._answers_as:
            raise ServerRefused(
                f"{self._client.address.shown}: now answers as {chunk.model!r:.80}, and before as "
                f"{self._answers_as!r:.80}. Connect again."
            )

    async def _look_again(self) -> None:
        """After a lost connection, see that the same model is there: one request looks, the others wait for it."""
        async with self._looking:
            if not self._is_in_doubt:
                return
            before = self._identity
            await identify(self._client, self._served, before.model, before.dialect.name)
            self._is_in_doubt = False


@atexit.register
def _close_all() -> None:
    """Whoever waits must hear of the end."""
    for backend in list(_open_backends):
        backend.close()
