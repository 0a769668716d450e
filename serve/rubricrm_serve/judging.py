"""Comparisons on their way: each has a place like a generation, a time limit, and ends when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rubricrm.judge.verdict import Reason, Unscored
from starlette.types import Receive

from rubricrm_serve.choices import while_connected
from rubricrm_serve.refusal import RETRY_AFTER, Refusal, out_of_time, shutting_down
from rubricrm_serve.service import Service

T = TypeVar("T")


async def in_place(service: Service, receive: Receive, start: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
    """Return what some work gives; None where the client left.

    Raises:
        Refusal: There is no place, the time is over, or the server ends.
    """
    tasks: list[asyncio.Task[T | None]] = []
    (place,) = service.admission.admit(1, lambda: [task.cancel() for task in tasks])
    tasks.append(asyncio.create_task(while_connected(receive, start())))
    try:
        async with asyncio.timeout(service.options.timeout_s):
            return await tasks[0]
    except TimeoutError:
        raise out_of_time(service.options.timeout_s) from None
    except asyncio.CancelledError:
        if service.admission.is_draining and tasks[0].cancelled():
            raise shutting_down() from None
        raise
    finally:
        place.leave()


def refusal_of_unscored(unscored: Unscored) -> Refusal | None:
    """Return what a client is told where nothing could be judged; None: the judge answered, but with no verdict."""
    if unscored.reason == Reason.INPUT_INVALID:
        return Refusal(400, unscored.detail, code=str(unscored.reason))
    if unscored.reason not in (Reason.JUDGE_FAILED, Reason.RUBRIC_FAILED):
        return None
    if unscored.retryable:
        return Refusal(503, unscored.detail, "unavailable", code=str(unscored.reason), headers=RETRY_AFTER)
    message = "The comparison failed. The server's log says why."
    return Refusal(500, message, "server_error", code=str(unscored.reason))
