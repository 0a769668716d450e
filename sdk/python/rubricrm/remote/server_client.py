"""One pooled client of a server: the openai package's transport, events and retries, and this package's errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rubricrm.errors import OptionInvalid, ServerError, ServerRefused
from rubricrm.remote.completion_chunk import WHOLE_REASONS, CompletionChunk, read_chunk
from rubricrm.remote.failures import broke_off, broken, failed, failure, is_told
from rubricrm.remote.server_address import ServerAddress
from rubricrm.runtime.installation import missing_package

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# Seconds for an answer that needs no generation, and for a trial, which may compile a grammar first.
_ANSWER_S = 30.0


class ServerClient:
    """Asks one server. It belongs to the event loop in which it is first used.

    A request that could not be started is tried twice more by the openai package, after half a second and more:
    no connection, 408, 409, 429 and 5xx. Once a stream has begun nothing is tried again.

    Attributes:
        address: Where the server is.
    """

    def __init__(self, address: ServerAddress, api_key: str | None, max_retries: int) -> None:
        """Connect to nothing yet.

        Raises:
            DependencyMissing: The openai package is not installed.
            OptionInvalid: The key cannot be sent.
        """
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key):
            raise OptionInvalid("api_key: expected printable ASCII characters, as a header takes them.")
        self.address = address
        self._client = _open_client(address.root, api_key, max_retries)

    async def models(self) -> list[Mapping[str, Any]]:
        """Return the entries of the server's list of models.

        Raises:
            ServerError: It cannot be reached, refuses, or answers something else.
        """
        answer = await self._ask("/v1/models")
        entries = answer.get("data") if isinstance(answer, Mapping) else None
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) and "id" in entry for entry in entries):
            raise ServerRefused(
                f"{self.address.shown}/v1/models: names no models ({answer!r:.80}). Give the address of an OpenAI API."
            )
        return entries

    async def tokenize(self, path: str, body: Mapping[str, Any]) -> list[int] | None:
        """Return a text's ids; None where the server has no such endpoint.

        Raises:
            ServerError: It cannot be reached, or refuses.
        """
        try:
            answer = await self._ask(path, body)
        except ServerRefused as error:
            if error.status in (404, 405, 501):
                return None
            raise
        tokens = answer.get("tokens") if isinstance(answer, Mapping) else None
        if not isinstance(tokens, list) or not all(type(token_id) is int for token_id in tokens):
            raise ServerRefused(f"{self.address.shown}{path}: tells no ids ({answer!r:.80}).")
        return tokens

    async def complete(
        self, request: Mapping[str, Any], take: Callable[[CompletionChunk], bool], num_logprobs: int | None = None
    ) -> str | None:
        """Hand out the chunks of a completion, and return why its text ends: "stop" or "length".

        Args:
            request: As `completion_request` makes it.
            take: Gets each chunk; returns whether it wants more. If it does not, None is returned.
            num_logprobs: As `read_chunk`.

        Raises:
            ServerError: It cannot be reached, refuses, or fails; the stream breaks off; the text has no end that is
                one.
        """
        where = f"{self.address.shown}/v1/completions"
        return await _stream(self._client.completions.create(**request), take, where, num_logprobs)

    async def chat(self, request: Mapping[str, Any], take: Callable[[CompletionChunk], bool]) -> str | None:
        """As `complete`, of `/v1/chat/completions`: for servers that take messages alone.

        Args:
            request: The arguments of `chat.completions.create`, with `stream`.
            take: As of `complete`.

        Raises:
            ServerError: As `complete`.
        """
        where = f"{self.address.shown}/v1/chat/completions"
        return await _stream(self._client.chat.completions.create(**request), take, where, None)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> object:
        url = f"{self.address.root}{path}"
        try:
            if body is None:
                return await self._client.get(url, cast_to=object, options={"timeout": _ANSWER_S})
            return await self._client.post(url, cast_to=object, body=body, options={"timeout": _ANSWER_S})
        except Exception as error:
            raise failure(error, f"{self.address.shown}{path}") from error


async def _stream(
    asking: Awaitable[Any], take: Callable[[CompletionChunk], bool], where: str, num_logprobs: int | None
) -> str | None:
    """Hand out the chunks of what was asked for, and return why its text ends; None: nobody wants more."""
    try:
        stream = await asking
    except Exception as error:
        raise failure(error, where) from error
    parts: list[str] = []
    reason: str | None = None
    try:
        async for raw in stream:
            chunk = read_chunk(raw, num_logprobs)
            _check_error(chunk, where, parts)
            parts.append(chunk.text)
            reason = chunk.finish_reason or reason
            if not take(chunk):
                return None
    except ServerError:
        raise
    except Exception as error:
        # After the reason a text is whole, and its connection may break; an error that the server tells counts.
        if reason is None or is_told(error):
            raise failure(error, where, "".join(parts), has_begun=True) from error
    finally:  # a cancel that arrives now must not leave the connection half closed
        await asyncio.shield(asyncio.ensure_future(stream.close()))
    return _whole(reason, where, "".join(parts))


def _check_error(chunk: CompletionChunk, where: str, parts: Sequence[str]) -> None:
    if chunk.error is not None:
        raise broke_off(where, chunk.error, chunk.error_code, "".join(parts))


def _whole(reason: str | None, where: str, text: str) -> str:
    """Return the reason for which a whole text, or one of so many tokens, ends."""
    if reason is None:
        raise broken(where, "it has no finish_reason", text)
    if reason not in WHOLE_REASONS:
        expected = ", ".join(WHOLE_REASONS)
        raise failed(where, f"ended the text for the reason {reason!r:.40}, expected {expected}", text)
    return WHOLE_REASONS[reason]


def _open_client(root: str, api_key: str | None, max_retries: int) -> AsyncOpenAI:
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise missing_package("a model on a server", error, "remote") from error
    # Everything is given: what the environment holds for OpenAI's own API must not be sent to another server.
    return AsyncOpenAI(
        base_url=f"{root}/v1", api_key=api_key or "none", organization="", project="", max_retries=max_retries
    )
