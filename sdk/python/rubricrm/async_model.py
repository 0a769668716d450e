"""`RubricModel` for event loops: the same names as coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar, Unpack

from rubricrm.errors import EngineBusy, RubricrmError
from rubricrm.generation.capabilities import Capabilities
from rubricrm.generation.engine_options import EngineKeywords
from rubricrm.generation.options import GenerationOptions, OptionKeywords, merge
from rubricrm.generation.outcome import Outcome, check_concurrency
from rubricrm.generation.result import RubricResult, TextResult
from rubricrm.generation.rubric_stream import RubricStream, StreamEvent
from rubricrm.generation.text_stream import TextStream
from rubricrm.model import RubricModel
from rubricrm.remote.connect_options import ConnectKeywords

Piece = TypeVar("Piece", StreamEvent, str)
Result = TypeVar("Result", RubricResult, TextResult)


class AsyncStream(Generic[Piece, Result]):
    """A stream whose pieces are awaited: an asynchronous iterator and context manager.

    Tokenizing happens in another thread, at the first use. A task that is cancelled while it waits ends the generation.
    A stream belongs to the event loop that uses it first.
    """

    def __init__(self, open_stream: Callable[[], RubricStream | TextStream]) -> None:
        self._open = open_stream
        self._stream: RubricStream | TextStream | None = None
        self._changed = asyncio.Event()
        self._opening = asyncio.Lock()

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
        async with self._opening:  # several tasks may use it first
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
    """A model for event loops: `await model.generate(...)` computes beside all that others have asked for.

    One model serves any number of tasks, event loops and threads at once: give it to all of them, or wrap one open
    `RubricModel` in one of these per loop. All their requests run on one engine.

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
    async def connect(cls, url: str, *, prompt: Path | str, **options: Unpack[ConnectKeywords]) -> Self:
        """As `RubricModel.connect`, in another thread."""
        return cls(await asyncio.to_thread(lambda: RubricModel.connect(url, prompt=prompt, **options)))

    @classmethod
    async def demo(cls, *, threads: int | None = None, **engine: Unpack[EngineKeywords]) -> Self:
        """As `RubricModel.demo`, in another thread."""
        return cls(await asyncio.to_thread(lambda: RubricModel.demo(threads=threads, **engine)))

    @property
    def description(self) -> Mapping[str, str]:
        """As of `RubricModel`."""
        return self.model.description

    @property
    def context_length(self) -> int:
        """As of `RubricModel`."""
        return self.model.context_length

    @property
    def max_concurrency(self) -> int:
        """As of `RubricModel`."""
        return self.model.max_concurrency

    @property
    def capabilities(self) -> Capabilities | None:
        """As of `RubricModel`."""
        return self.model.capabilities

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

    def stream_ids(
        self,
        prompt_ids: Sequence[int],
        *,
        is_rubric: bool = False,
        options: GenerationOptions | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> AsyncStream[str, TextResult]:
        """As `RubricModel.stream_ids`; as `stream`."""
        return AsyncStream(lambda: self.model.stream_ids(prompt_ids, is_rubric=is_rubric, options=options, **keywords))

    def generate_many(
        self,
        requests: Iterable[str],
        *,
        max_concurrency: int | None = None,
        ordered: bool = False,
        options: GenerationOptions | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> AsyncGenerator[Outcome]:
        """As `RubricModel.generate_many`: `async for outcome in model.generate_many(...)`.

        A task that is cancelled meanwhile ends all that still run.
        """
        checked = merge(options, keywords)
        most = check_concurrency(max_concurrency, self.model.max_concurrency)
        outcomes = _as_they_end(lambda request: self.generate(request, options=checked), requests, most)
        return _in_order(outcomes) if ordered else outcomes

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


async def _as_they_end(
    start: Callable[[str], Awaitable[RubricResult]], requests: Iterable[str], most: int
) -> AsyncGenerator[Outcome]:
    """As `outcome.as_they_end`, each request a task."""

    async def run(index: int, request: str) -> Outcome:
        try:
            return Outcome(index, request, await start(request))
        except RubricrmError as error:
            return Outcome(index, request, None, error)

    upcoming: Iterator[tuple[int, str]] = enumerate(requests)
    running: set[asyncio.Task[Outcome]] = set()
    room = most
    try:
        while True:
            running |= {asyncio.create_task(run(*each)) for each in islice(upcoming, max(0, room - len(running)))}
            if not running:
                return
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            room, is_last = most, len(ended) == 1 and not running
            for outcome in [task.result() for task in ended]:
                if isinstance(outcome.error, EngineBusy) and not is_last:
                    # Others fill the line: there may be room when one of these has ended.
                    upcoming, room = chain([(outcome.index, outcome.request)], upcoming), max(1, len(running))
                else:
                    yield outcome
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _in_order(outcomes: AsyncGenerator[Outcome]) -> AsyncGenerator[Outcome]:
    """As `outcome.in_order`."""
    early: dict[int, Outcome] = {}
    index = 0
    async with aclosing(outcomes):
        async for outcome in outcomes:
            early[outcome.index] = outcome
            while index in early:
                yield early.pop(index)
                index += 1
