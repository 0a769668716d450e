"""Whether the model answers: one token, computed now and then."""

from __future__ import annotations

import asyncio
import time

from rubricrm.async_model import AsyncRubricModel
from rubricrm.errors import EngineBusy, RubricrmError

# A load balancer asks every few seconds. One token of a 4B model takes a second of two cores.
_FRESH_S = 15.0
_LONGEST_S = 10.0
_FIRST = 1 << 30  # before all that wait


class Probe:
    """Remembers its last answer for 15 seconds.

    A model that has too much to do is no fault: it ends the probe in time, without a token.
    """

    def __init__(self, model: AsyncRubricModel) -> None:
        self._model = model
        self._asking = asyncio.Lock()
        self._asked: float | None = None
        self._problem: str | None = None

    async def problem(self) -> str | None:
        """Return why the model does not answer; None: it does."""
        async with self._asking:
            if self._asked is None or time.monotonic() - self._asked > _FRESH_S:
                self._problem = await self._ask()
                self._asked = time.monotonic()
            return self._problem

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(_LONGEST_S + 1.0):
                await self._model.generate_text("?", max_new_tokens=1, timeout_s=_LONGEST_S, priority=_FIRST)
        except TimeoutError:
            return "it does not keep to a time limit"
        except EngineBusy:
            return None
        except RubricrmError as error:
            return error.code
        return None
