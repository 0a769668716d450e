"""`Jury` for event loops: the same names as coroutines."""

from __future__ import annotations

import asyncio

from rubricrm.errors import RubricrmError
from rubricrm.judge.panel import Panel, given_rubric, without_rubric
from rubricrm.judge.poll import Case, Poll
from rubricrm.judge.verdict import Scored, Unscored, Verdict, score, tally


class AsyncJury(Panel):
    """As `Jury`, for any number of tasks and event loops. A task that is canceled ends its samples.

    It takes the models that `Jury` takes: of an `AsyncRubricModel` its `model`. All comparisons that are started run at
    once: whoever starts thousands limits them, before the judge's line is full and votes are lost to EngineBusy.

    Example:
        >>> jury = AsyncJury(judge, rubrics, votes=3)
        >>> outcomes = await asyncio.gather(*(jury.reward(request, answer, reference) for answer in answers))
    """

    async def compare(self, request: str, a: str, b: str, *, rubric: str | None = None) -> Verdict | Unscored:
        """As `Jury.compare`."""
        text = await self._rubric(request, a, b, rubric)
        poll = await self._start(Case(request, text, a, b)) if isinstance(text, str) else text
        if isinstance(poll, Unscored):
            return poll
        try:
            # A vote's own error is read by `votes`.
            await asyncio.gather(*map(asyncio.wrap_future, poll.futures), return_exceptions=True)
        except BaseException:
            poll.cancel()
            raise
        return tally(poll.votes())

    async def reward(
        self, request: str, answer: str, reference: str, *, rubric: str | None = None
    ) -> Scored | Unscored:
        """As `Jury.reward`."""
        self._check_reward()
        verdict = await self.compare(request, answer, reference, rubric=rubric)
        return score(verdict) if isinstance(verdict, Verdict) else verdict

    async def _rubric(self, request: str, a: str, b: str, rubric: str | None) -> str | Unscored:
        found = given_rubric(request, a, b, rubric)
        if found is not None:
            return found
        rubrics = self._rubrics
        try:
            return await asyncio.wrap_future(await asyncio.to_thread(rubrics.get, request))
        except RubricrmError as error:
            return without_rubric(error)

    async def _start(self, case: Case) -> Poll | Unscored:
        """Ask for the votes in another thread: texts are tokenized there."""
        starting = asyncio.ensure_future(asyncio.to_thread(self._start_poll, case))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_cancel)
            raise


def _cancel(started: asyncio.Future[Poll | Unscored]) -> None:
    if not started.cancelled() and started.exception() is None and isinstance(poll := started.result(), Poll):
        poll.cancel()
