"""Who answers requests: a model of the SDK, in this process or on a server, or a server that only chats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from rubricrm.errors import OptionInvalid, RuntimeFailed, ServerError
from rubricrm.model import RubricModel
from rubricrm.remote.completion_chunk import CompletionChunk
from rubricrm.remote.loop_thread import LoopThread
from rubricrm.remote.server_address import ServerAddress
from rubricrm.remote.server_client import ServerClient
from rubricrm.runtime.manifest import REQUEST_FIELD, RUBRIC
from rubricrm.runtime.prompt_directory import open_prompt_directory
from rubricrm.served_model import ServedModel

_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class WrittenAnswer:
    """What was written for a request.

    Attributes:
        text: The text.
        is_complete: Whether the model ended by itself; else its tokens were used up.
        first_ms: From the call to the first piece of text, milliseconds; None where nothing came.
        total_ms: From the call to the end.
    """

    text: str
    is_complete: bool
    first_ms: float | None
    total_ms: float


class Answerer(Protocol):
    """Answers requests one at a time, greedily."""

    @property
    def name(self) -> str:
        """What is told of it in a report."""
        ...

    def answer(self, request: str, max_new_tokens: int) -> WrittenAnswer:
        """Answer a request.

        Raises:
            RubricrmError: It failed.
        """
        ...

    def close(self) -> None:
        """End it."""
        ...


class ModelAnswerer:
    """A model of the SDK. Nothing holds it to the form of rubrics: what it writes by itself is compared."""

    def __init__(self, model: RubricModel, name: str, timeout_s: float | None = None) -> None:
        """Take a model, which is closed with it; an answer that takes longer than `timeout_s` is a failure."""
        self.name = name
        self._model = model
        self._timeout_s = timeout_s

    @classmethod
    def open(cls, path: Path, *, device: str) -> Self:
        """Open a bundle; errors as `RubricModel.open`."""
        return cls(RubricModel.open(path, device=device), f"bundle on {device}")

    @classmethod
    def connect(cls, served: ServedModel) -> Self:
        """Connect to a model; errors as `RubricModel.connect`. Times are those of its stream, as seen here.

        Nothing is tried again: a second try would hide in the times of the first.
        """
        return cls(served.connect(RubricModel, constrain=False, max_retries=0), f"server {served.url}", _TIMEOUT_S)

    def answer(self, request: str, max_new_tokens: int) -> WrittenAnswer:
        """Answer a request."""
        result = self._model.generate(
            request, max_new_tokens=max_new_tokens, constrain=False, timeout_s=self._timeout_s
        )
        if result.finish_reason == "timeout":
            raise RuntimeFailed(f"{self.name}: wrote for longer than {self._timeout_s:.0f} s. See the server's log.")
        timings = result.timings_ms
        return WrittenAnswer(result.text, result.finish_reason == "stop", timings.first_token, timings.total)

    def close(self) -> None:
        """Close the model."""
        self._model.close()


class ChatAnswerer:
    """A server that takes messages alone, such as Edge-LLM's: its own template and tokenizer make the prompt."""

    def __init__(self, served: ServedModel) -> None:
        """Look at the server's list of models; dialects have no part in a chat.

        Raises:
            OptionInvalid: It is no server's address.
            ServerError: The server does not answer, or names no model.
            BundleInvalid: The prompt directory is not whole.
        """
        self.name = f"server {served.url}"
        self._template = open_prompt_directory(served.prompt).manifest.prompt_of(RUBRIC).template
        self._client = ServerClient(ServerAddress.of(served.url), served.api_key, max_retries=0)
        self._loop = LoopThread("rubricrm-certify")
        try:
            self._model = self._chosen(served)
        except BaseException:
            self.close()
            raise

    def answer(self, request: str, max_new_tokens: int) -> WrittenAnswer:
        """Answer a request, without thinking."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": self._template.replace(REQUEST_FIELD, request)}],
            "max_tokens": max_new_tokens,
            "temperature": 0,
            "stream": True,
            "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
        }
        try:
            return self._loop.run(asyncio.wait_for(self._chat(body), _TIMEOUT_S))
        except TimeoutError as error:
            raise RuntimeFailed(f"{self.name}: wrote for longer than {_TIMEOUT_S:.0f} s. See its log.") from error

    def close(self) -> None:
        """Close the connection."""
        self._loop.stop(self._client.close)

    def _chosen(self, served: ServedModel) -> str:
        """Return the model that is named, or the first one."""
        listed = [str(entry["id"]) for entry in self._loop.run(self._client.models())]
        if served.model not in (None, *listed) or not listed:
            raise OptionInvalid(
                f"{served.url}: has the models {', '.join(listed) or 'none'}, expected {served.model or 'one'}. Name "
                "one of them by --server-model."
            )
        return served.model or listed[0]

    async def _chat(self, body: Mapping[str, Any]) -> WrittenAnswer:
        started = time.perf_counter()
        pieces: list[tuple[float, str]] = []

        def take(chunk: CompletionChunk) -> bool:
            if chunk.text:
                pieces.append((time.perf_counter(), chunk.text))
            return True

        reason = await self._client.chat(body, take)
        total = time.perf_counter() - started
        first_ms = 1000 * (pieces[0][0] - started) if pieces else None
        return WrittenAnswer("".join(text for _, text in pieces), reason == "stop", first_ms, 1000 * total)


def lists_models(url: str) -> bool:
    """Whether a server serves a model by now.

    Raises:
        DependencyMissing: The extra `remote` is not installed.
    """

    async def look() -> bool:
        client = ServerClient(ServerAddress.of(url), None, max_retries=0)
        try:
            return bool(await client.models())
        finally:
            await client.close()

    try:
        return asyncio.run(look())
    except ServerError:
        return False
