"""The generations of one HTTP request: from their places in line to their results, streamed or not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from rubricrm.async_model import AsyncStream
from rubricrm.errors import RubricrmError
from rubricrm.generation.result import RubricResult, TextResult
from rubricrm.generation.rubric_stream import StreamEvent
from starlette.types import Receive

from rubricrm_serve.admission import Admission, AdmittedPlace
from rubricrm_serve.metrics import Metrics
from rubricrm_serve.refusal import Refusal, refusal_of, shutting_down

Stream: TypeAlias = AsyncStream[StreamEvent, RubricResult] | AsyncStream[str, TextResult]
Result: TypeAlias = RubricResult | TextResult
T = TypeVar("T")
logger = logging.getLogger(__name__)

# The longest silence in a stream: proxies end connections on which nothing comes for a minute.
_QUIET_S = 15.0


@dataclass(frozen=True)
class ChoicePart:
    """What came of one generation of a request: a piece of it, or its end.

    Attributes:
        index: Which one.
        content: A piece of text, an event of a rubric, or the result.
    """

    index: int
    content: str | StreamEvent | Result


class Choices:
    """One or several generations that belong together. Each is computed at the engine's pace, however it is read.

    A place is given back when its generation has ended, not when a slow client has read it.
    """

    def __init__(self, streams: list[Stream], admission: Admission, metrics: Metrics, *, is_rubric: bool) -> None:
        """Take places in line.

        Args:
            streams: Not used before.
            admission: Gives the places.
            metrics: Take in what comes.
            is_rubric: Whether they are rubrics.

        Raises:
            Refusal: There is no place.
        """
        self._streams = streams
        self._metrics = metrics
        self._is_rubric = is_rubric
        self._is_cut = False
        self._closing: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[Result | None]] = []
        self._queue: asyncio.Queue[ChoicePart | Refusal | None] = asyncio.Queue()
        self._silence: asyncio.TimerHandle | None = None
        self._num_heard = 0
        self._places = admission.admit(len(streams), self._cut)

    @property
    def size(self) -> int:
        """How many generations there are."""
        return len(self._streams)

    async def begin(self) -> None:
        """Have all of them wait or run in the engine.

        Raises:
            Refusal: One of them is not taken; none goes on.
        """
        try:
            for stream in self._streams:
                await stream.__aenter__()
        except RubricrmError as error:
            await self.close()
            raise self._failed(refusal_of(error)) from error
        except BaseException:
            await self.close()
            raise

    async def results_for(self, receive: Receive) -> list[Result] | None:
        """Return the results of all, in their order; None where the client left. Then none runs on.

        Raises:
            Refusal: One of them failed; the others are ended.
        """
        try:
            return await while_connected(receive, self.results())
        finally:
            await self.close()

    async def results(self) -> list[Result]:
        """Return the results of all, in their order.

        Raises:
            Refusal: One of them failed; the others are ended.
        """
        self._start(self._whole)
        try:
            found = await asyncio.gather(*self._tasks)
        finally:
            await self.close()
        return [result for result in found if result is not None]

    async def parts(self) -> AsyncGenerator[list[ChoicePart]]:
        """Yield what comes, as many parts together as there are; nothing in a list where nothing came for a while.

        Raises:
            Refusal: One of them failed; the others are ended.
        """
        self._start(self._forward)
        self._watch_silence()
        num_left = len(self._streams)
        try:
            while num_left:
                parts = [await self._queue.get(), *self._others()]
                refusal = next((part for part in parts if isinstance(part, Refusal)), None)
                found = [part for part in parts if isinstance(part, ChoicePart)]
                self._num_heard += len(found)
                if found or refusal is None:
                    yield found
                if refusal is not None:
                    raise refusal
                num_left -= sum(isinstance(part.content, RubricResult | TextResult) for part in found)
        finally:
            await self.close()

    async def close(self) -> None:
        """End all that still run."""
        if self._silence is not None:
            self._silence.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stream, place in zip(self._streams, self._places, strict=True):
            await stream.close()
            place.leave()

    def _start(self, run: Callable[[int, Stream, AdmittedPlace], Coroutine[Any, Any, Result | None]]) -> None:
        self._tasks = [
            asyncio.create_task(run(index, stream, place))
            for index, (stream, place) in enumerate(zip(self._streams, self._places, strict=True))
        ]

    def _watch_silence(self, num_heard: int = -1) -> None:
        """Queue nothing where nothing came since the last look: a timer for each piece would cost more."""
        if num_heard == self._num_heard:
            self._queue.put_nowait(None)
        look = asyncio.get_running_loop().call_later
        self._silence = look(_QUIET_S / 2, self._watch_silence, self._num_heard)

    def _others(self) -> list[ChoicePart | Refusal | None]:
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]

    async def _forward(self, index: int, stream: Stream, place: AdmittedPlace) -> None:
        """Queue what a stream brings, its result or failure last."""
        before = 0.0
        try:
            async for event in stream:
                now = time.perf_counter()
                if before:
                    self._metrics.piece(now - before)
                before = now
                self._queue.put_nowait(ChoicePart(index, event))
            self._queue.put_nowait(ChoicePart(index, await self._result(stream)))
        except RubricrmError as error:
            self._queue.put_nowait(self._failed(refusal_of(error)))
        except Refusal as refusal:
            self._queue.put_nowait(refusal)
        except Exception:  # whoever reads the queue must hear of it, whatever it is
            logger.exception("a generation failed")
            self._queue.put_nowait(self._failed(Refusal(500, "The generation failed.", "server_error")))
        finally:
            place.leave()

    async def _whole(self, _: int, stream: Stream, place: AdmittedPlace) -> Result:
        try:
            return await self._result(stream)
        except RubricrmError as error:
            raise self._failed(refusal_of(error)) from error
        finally:
            place.leave()

    async def _result(self, stream: Stream) -> Result:
        result = await stream.result()
        if self._is_cut or result.finish_reason == "cancelled":
            raise self._failed(shutting_down())
        self._metrics.ended(result)
        return result

    def _failed(self, refusal: Refusal) -> Refusal:
        self._metrics.failed(refusal.code or "", is_rubric=self._is_rubric)
        return refusal

    def _cut(self) -> None:
        """End at once, with an error: what there is must not look like an end."""
        self._is_cut = True
        self._closing = [asyncio.create_task(stream.close()) for stream in self._streams]


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """Do some work, and end it as soon as the client leaves; then return None.

    Cancelling this cancels the work.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        await _end(gone)
        await _end(task)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
