"""Random requests, each read or left in a random way: from a thread, or from a task of an event loop."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from rubricrm import AsyncRubricModel, RubricModel
from rubricrm.errors import RubricrmError

_PAUSE_S = 0.005  # of a slow reader, after each piece


class RandomUse:
    """One use of a model, the same for the same seed; `from_thread` and `from_task` return what became of it.

    That is a finish reason or an error's code, or how the caller itself ended it: dropped, task cancelled, wait_for.
    """

    def __init__(self, seed: int) -> None:
        self._numbers = numbers = random.Random(seed)
        alike = f"A shared beginning. {'word ' * 60} {seed}"  # of which many are computed at once
        self._text = numbers.choice(["", "word " * 5000, alike, alike, *["word " * numbers.randrange(1, 60)] * 8])
        self._options: dict[str, Any] = {
            "max_new_tokens": numbers.randrange(1, 60),
            "temperature": numbers.choice((0.0, 1.0)),
            "priority": numbers.randrange(-1, 2),
            "timeout_s": numbers.choice((None, None, None, 0.001, 0.05, 1.0)),
        }

    def from_thread(self, model: RubricModel) -> str:
        """Use the model as a thread does."""
        ways = (self._read, self._read, self._read_slowly, self._wait, self._cancel, self._submit, self._many)
        way: Callable[[RubricModel], str] = self._numbers.choice((*ways, self._set_event, self._leave, self._drop))
        try:
            return way(model)
        except RubricrmError as error:
            return error.code

    async def from_task(self, model: AsyncRubricModel) -> str:
        """Use the model as a task does."""
        way = self._numbers.choice((self._aread, self._aread_slowly, self._await, self._amany))
        task = asyncio.ensure_future(self._numbers.choice((way, self._aleave, self._adrop))(model))
        limit = self._numbers.choice((None, None, self._numbers.expovariate(20)))
        try:
            if limit is not None and self._numbers.random() < 0.5:
                asyncio.get_running_loop().call_later(limit, task.cancel)
                return await task
            return await asyncio.wait_for(task, limit)
        except RubricrmError as error:
            return error.code
        except asyncio.CancelledError:
            return "task cancelled"
        except TimeoutError:
            return "wait_for"

    # ---- threads ----

    def _read(self, model: RubricModel, pause_s: float = 0.0) -> str:
        stream = model.stream(self._text, **self._options)
        for _ in stream:
            time.sleep(pause_s)
        return stream.result().finish_reason

    def _read_slowly(self, model: RubricModel) -> str:
        return self._read(model, _PAUSE_S)

    def _wait(self, model: RubricModel) -> str:
        return model.generate(self._text, **self._options).finish_reason

    def _submit(self, model: RubricModel) -> str:
        return model.submit(self._text, **self._options).result().finish_reason

    def _many(self, model: RubricModel) -> str:
        outcomes = model.generate_many([self._text, "Two.", "Three."], **self._options)
        outcome = next(outcomes)
        outcomes.close()
        return outcome.error.code if outcome.error else outcome.result.finish_reason  # type: ignore[union-attr]

    def _cancel(self, model: RubricModel) -> str:
        with model.stream(self._text, **self._options) as stream:
            next(stream, None)
            stream.cancel()
            stream.wait()
        return stream.result().finish_reason

    def _set_event(self, model: RubricModel) -> str:
        cancel = threading.Event()
        stream = model.stream(self._text, cancel=cancel, **self._options)
        next(stream, None)
        cancel.set()
        stream.wait()
        return stream.result().finish_reason

    def _leave(self, model: RubricModel) -> str:
        with model.stream(self._text, **self._options) as stream:
            next(stream, None)
        return stream.result().finish_reason

    def _drop(self, model: RubricModel) -> str:
        next(model.stream(self._text, **self._options), None)
        return "dropped"

    # ---- tasks ----

    async def _aread(self, model: AsyncRubricModel, pause_s: float = 0.0) -> str:
        async with model.stream(self._text, **self._options) as stream:
            async for _ in stream:
                await asyncio.sleep(pause_s)
            return (await stream.result()).finish_reason

    async def _aread_slowly(self, model: AsyncRubricModel) -> str:
        return await self._aread(model, _PAUSE_S)

    async def _await(self, model: AsyncRubricModel) -> str:
        return (await model.generate(self._text, **self._options)).finish_reason

    async def _amany(self, model: AsyncRubricModel) -> str:
        reason = ""
        async for outcome in model.generate_many([self._text, "Two.", "Three."], **self._options):
            reason = outcome.error.code if outcome.error else outcome.result.finish_reason  # type: ignore[union-attr]
        return reason

    async def _aleave(self, model: AsyncRubricModel) -> str:
        async with model.stream(self._text, **self._options) as stream:
            async for _ in stream:
                break
        return (await stream.result()).finish_reason

    async def _adrop(self, model: AsyncRubricModel) -> str:
        await anext(model.stream(self._text, **self._options), None)
        return "dropped"
