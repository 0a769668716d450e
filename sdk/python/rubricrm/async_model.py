"""`RubricModel` for event loops: the same names as coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar, Unpack

from rubricrm.generation.engine_options import EngineKeywords
from rubricrm.generation.options import GenerationOptions, OptionKeywords
from rubricrm.generation.outcome import Outcome
from rubricrm.generation.result import RubricResult, TextResult
from rubricrm.generation.rubric_stream import RubricStream, StreamEvent
from rubricrm.generation.text_stream import TextStream
from rubricrm.model import RubricModel

Piece = TypeVar("Piece", StreamEvent, str)
Result = TypeVar("Result", RubricResult, TextResult)


class AsyncStream(Generic[Piece, Result]):
    """A stream whose pieces are awaited: an asynchronous iterator and context manager.

    Tokenizing happens in another thread, at the first use. A task that is cancelled while it waits ends the generation.
    """

    def __init__(self, open_stream: Callable[[], RubricStream | TextStream]) -> None:
        self._open = open_stream
        self._stream: RubricStream | TextStream | None = None
        self._changed = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        stream = await self._opened()
        try:
            while not stream.is_ready():
                self._changed.clear()
                if not stream.is_ready():
                    await self._changed.wait()
        except asyncio.CancelledError:
            stream.close()
            raise
        piece: Piece | None = next(stream, None)  # type: ignore[assignment]
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def result(self) -> Result:
        """Wait for the end, and return the outcome.

        Raises:
            RubricrmError: What the generation failed with.
        """
        stream = await self._opened()
        async for _ in self:
            pass
        result: Result = stream.result()  # type: ignore[assignment]
        return result

    async def close(self) -> None:
        """End now. Closing twice is fine."""
        if self._stream is not None:
            self._stream.close()

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _opened(self) -> RubricStream | TextStream:
        if self._stream is None:
            loop = asyncio.get_running_loop()
            self._stream = stream = await asyncio.to_thread(self._open)
            wake = self._changed.set  # not this object: a stream that nobody holds any more must end
            stream.on_change(lambda: _call_in(loop, wake))
        return self._stream


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    if not loop.is_closed():  # else nobody waits there any more
        loop.call_soon_threadsafe(call)


class AsyncRubricModel:
    """A model for an event loop: `await model.generate(...)` computes beside all that other tasks have asked for.

    Example:
        >>> import asyncio
        >>> async def main() -> None:
        ...     async with await AsyncRubricModel.demo() as model:
        ...         requests = ("Write a haiku.", "Name a color.")
        ...         results = await asyncio.gather(*(model.generate(request) for request in requests))
        ...         print([result.finish_reason for result in results])
        >>> asyncio.run(main())
        ['stop', 'stop']
    """

    def __init__(self, model: RubricModel) -> None:
        """Wrap an open model, which may also be used directly."""
        self.model = model

    @classmethod
    async def open(
        cls,
        path: Path | str,
        *,
        device: str | None = None,
        threads: int | None = None,
        verify: bool = False,
        **engine: Unpack[EngineKeywords],
    ) -> Self:
        """As `RubricModel.open`, in another thread."""
        return cls(
            await asyncio.to_thread(
                lambda: RubricModel.open(path, device=device, threads=threads, verify=verify, **engine)
            )
        )

    @classmethod
    async def demo(cls, *, threads: int | None = None, **engine: Unpack[EngineKeywords]) -> Self:
        """As `RubricModel.demo`, in another thread."""
        return cls(await asyncio.to_thread(lambda: RubricModel.demo(threads=threads, **engine)))

    async def generate(
        self, request: str, *, options: GenerationOptions | None = None, **keywords: Unpack[OptionKeywords]
    ) -> RubricResult:
        """As `RubricModel.generate`; a task that is cancelled ends the generation."""
        async with self.stream(request, options=options, **keywords) as stream:
            return await stream.result()

    def stream(
        self, request: str, *, options: GenerationOptions | None = None, **keywords: Unpack[OptionKeywords]
    ) -> AsyncStream[StreamEvent, RubricResult]:
        """As `RubricModel.stream`: `async for event in model.stream(...)`. Errors come when it is first used."""
        return AsyncStream(lambda: self.model.stream(request, options=options, **keywords))

    async def generate_text(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        options: GenerationOptions | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> TextResult:
        """As `RubricModel.generate_text`; a task that is cancelled ends the generation."""
        async with self.stream_text(prompt, options=options, **keywords) as stream:
            return await stream.result()

    def stream_text(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        options: GenerationOptions | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> AsyncStream[str, TextResult]:
        """As `RubricModel.stream_text`; as `stream`."""
        return AsyncStream(lambda: self.model.stream_text(prompt, options=options, **keywords))

    async def generate_many(
        self,
        requests: Iterable[str],
        *,
        max_concurrency: int | None = None,
        ordered: bool = False,
        options: GenerationOptions | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> AsyncIterator[Outcome]:
        """As `RubricModel.generate_many`: `async for outcome in model.generate_many(...)`."""
        outcomes = self.model.generate_many(
            requests, max_concurrency=max_concurrency, ordered=ordered, options=options, **keywords
        )
        try:
            while (outcome := await asyncio.to_thread(next, outcomes, None)) is not None:
                yield outcome
        finally:
            outcomes.close()

    async def warmup(self) -> None:
        """As `RubricModel.warmup`."""
        await asyncio.to_thread(self.model.warmup)

    async def close(self) -> None:
        """As `RubricModel.close`."""
        await asyncio.to_thread(self.model.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
