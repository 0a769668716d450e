"""The backend of a server: ids out, text back, and every way in which that may fail has a name."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Self

from rubricrm.errors import (
    ServerError,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
    StreamBroken,
)
from rubricrm.generation.capabilities import Capabilities
from rubricrm.remote.completion_chunk import CompletionChunk
from rubricrm.remote.completion_request import completion_request
from rubricrm.remote.connect_options import ConnectOptions
from rubricrm.remote.connection import Identity, identify, try_grammar, try_out
from rubricrm.remote.dialects import GBNF, NAMED, REGEX
from rubricrm.remote.loop_backend import LoopBackend
from rubricrm.remote.loop_thread import LoopThread
from rubricrm.remote.remote_generation import RemoteGeneration
from rubricrm.remote.served_prompt import ServedPrompt
from rubricrm.remote.server_address import ServerAddress
from rubricrm.remote.server_client import ServerClient
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import RUBRIC

logger = logging.getLogger(__name__)


class ServerBackend(LoopBackend):
    """A model on a server: see `Backend`. Made by `connect`.

    Attributes:
        capabilities: What the server turned out to do.
    """

    device = "server"
    capabilities: Capabilities

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
        super().__init__(served, loop, max_concurrency=max_concurrency, max_waiting=max_waiting)
        self._client = client
        self._identity: Identity
        self._answers_as: str | None = None
        self._is_in_doubt = False
        self._looking = asyncio.Lock()
        weakref.finalize(self, loop.stop, client.close).atexit = False  # who forgets to close leaves no thread

    @classmethod
    def connect(
        cls,
        url: str,
        bundle: Bundle,
        options: ConnectOptions,
        *,
        prompt_name: str = RUBRIC,
    ) -> Self:
        """Look at a server, and return the backend of one of its models.

        Arguments and errors are those of `RubricModel.connect`; `prompt_name` says which of the bundle's prompts.
        """
        client = ServerClient(ServerAddress.of(url), options.api_key, options.max_retries)
        served = ServedPrompt.open(bundle, prompt_name)
        loop = LoopThread("rubricrm-server")
        backend = cls(served, loop, client, max_concurrency=options.max_concurrency, max_waiting=options.max_waiting)
        try:
            loop.run(backend._look(options.model, options.dialect, constrain=options.constrain))
        except BaseException:
            backend.close()
            raise
        return backend

    def _work(
        self, generation: RemoteGeneration, max_new_tokens: int, form: str | None
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        request = completion_request(
            self._identity.dialect,
            self._identity.model,
            generation.prompt_ids,
            generation.options,
            seed=generation.seed,
            max_new_tokens=max_new_tokens,
            stop_ids=self._served.facts.stop_ids,
            grammar=form,
        )
        return lambda: self._compute(generation, request)

    def _lacks_regex(self) -> str | None:
        dialect = self._identity.dialect
        if dialect.grammar_form == REGEX:
            return None
        takes = {GBNF: "GBNF and no regular expression", NAMED: "the form of rubrics alone", None: "no grammar"}
        return f"a server of the dialect {dialect.name} takes {takes[dialect.grammar_form]}"

    async def _try_grammar(self) -> None:
        await try_grammar(self._client, self._identity, self._served)

    async def _disconnect(self) -> None:
        await self._client.close()

    async def _look(self, model: str | None, dialect: str | None, *, constrain: bool) -> None:
        """Find out who answers, and what it can do."""
        identity = await identify(self._client, self._served, model, dialect)
        self._identity = identity
        self.capabilities, self._form = await try_out(self._client, identity, self._served, constrain=constrain)
        self._keeps_grammars = self.capabilities.constraint is not None
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
            return generation.take(chunk)

        try:
            if self._is_in_doubt:
                await self._look_again()
            if generation.options.grammar is not None:
                await self._require_grammars()
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
