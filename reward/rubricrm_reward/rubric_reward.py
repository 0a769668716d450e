"""The reward of answers, where an outage is never a score: each sample has a number or says why it has none."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, Self

from rubricrm.errors import OptionInvalid, OptionUnknown, RubricrmError
from rubricrm.judge.verdict import Reason, Scored, Unscored

from rubricrm_reward.errors import RewardUnavailable
from rubricrm_reward.jury_source import JurySource, OpensJury, RewardJury
from rubricrm_reward.sample import RewardSample

OnFailure = Literal["unscored", "raise"]


class _LoopState:
    """What belongs to one event loop: its jury, and the room in it."""

    def __init__(self, max_concurrency: int) -> None:
        self.room = asyncio.Semaphore(max_concurrency)
        self._opening = asyncio.Lock()
        self._jury: RewardJury | None = None

    async def jury(self, source: OpensJury) -> RewardJury:
        """Return the jury, opened by the first call; the next call tries again after a failure."""
        async with self._opening:
            if self._jury is None:
                self._jury = await source.open()
            return self._jury


class RubricReward:
    """The paper's reward of an answer: half a point for each order in which the judge prefers it to the reference.

    An instance can be pickled, and used in any number of processes and event loops: each opens its own jury at the
    first use. At most `max_concurrency` samples of a loop are judged at a time, whatever calls they belong to.

    Example:
        >>> from rubricrm_reward import JurySource, RewardSample, RubricReward
        >>> reward = RubricReward(JurySource("http://judge:8000", judge_prompt="judge-prompt"), timeout_s=60)
        >>> outcomes = await reward.score([RewardSample("Name a color.", "Red.", "Blue.")])
    """

    def __init__(
        self,
        source: OpensJury,
        *,
        on_failure: OnFailure = "unscored",
        max_unscored: float = 0.2,
        timeout_s: float = 120.0,
        max_concurrency: int = 64,
    ) -> None:
        """Remember how to judge; nothing is opened yet.

        Args:
            source: Opens the jury; it must be picklable where the trainer pickles its rewards.
            on_failure: "unscored": a sample that cannot be judged is returned as `Unscored`. "raise": it is an error.
            max_unscored: The share of a batch that may be unscored, 0 to 1; above it the batch is an error. Unless it
                is 0, one sample of a smaller batch may be unscored too, but not its only one.
            timeout_s: Seconds that the judgment of one sample may take, from its start; then it is unscored.
            max_concurrency: Most samples that are judged at a time in one event loop.

        Raises:
            OptionInvalid: A value is out of range.
        """
        if on_failure not in ("unscored", "raise"):
            raise OptionInvalid(f"on_failure must be 'unscored' or 'raise', got {on_failure!r:.80}.")
        if isinstance(max_unscored, bool) or not isinstance(max_unscored, int | float) or not 0 <= max_unscored <= 1:
            raise OptionInvalid(f"max_unscored must be a number from 0 to 1, got {max_unscored!r:.80}.")
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < math.inf:
            raise OptionInvalid(f"timeout_s must be a finite number above 0, got {timeout_s!r:.80}.")
        if type(max_concurrency) is not int or max_concurrency < 1:
            raise OptionInvalid(f"max_concurrency must be an integer from 1 on, got {max_concurrency!r:.80}.")
        self._source = source
        self._max_unscored = 0.0 if on_failure == "raise" else float(max_unscored)
        self._timeout_s = float(timeout_s)
        self._max_concurrency = max_concurrency
        self._forget_loops()

    @classmethod
    def from_settings(cls, settings: Mapping[str, object]) -> Self:
        """Make a reward of plain settings, as configuration files have them: what `JurySource` and this class take.

        Raises:
            OptionUnknown: There is no setting of this name.
            OptionInvalid: A value is out of range, or there is no judge.
        """
        known = {field.name for field in fields(JurySource)}
        own = {"on_failure", "max_unscored", "timeout_s", "max_concurrency"}
        for name in settings:
            if name not in known | own:
                raise OptionUnknown(
                    f"there is no setting {name!r:.80}, expected one of {', '.join(sorted(known | own))}."
                )
        if "judge" not in settings:
            raise OptionInvalid("the setting judge is missing. Give a bundle's directory or a server's address.")
        source: Any = {name: value for name, value in settings.items() if name in known}
        options: Any = {name: value for name, value in settings.items() if name in own}
        return cls(JurySource(**source), **options)

    async def score(self, samples: Sequence[RewardSample]) -> list[Scored | Unscored]:
        """Return the outcome of each sample of a batch, in their order.

        The cost is that of the jury's votes. As soon as more samples are unscored than may be, what still runs is
        cancelled: a judge that is down costs one timeout, and not one for every sample.

        Raises:
            RewardUnavailable: More than the allowed share of the samples could not be judged.
            RubricrmError: The jury could not be opened.
        """
        state = self._loop_state()
        jury = await state.jury(self._source)
        most = self._most_unscored(len(samples))
        tasks = [asyncio.create_task(self._outcome(state, jury, sample)) for sample in samples]
        unscored: list[Unscored] = []
        try:
            for ended in asyncio.as_completed(tasks):
                outcome = await ended
                if isinstance(outcome, Unscored):
                    unscored.append(outcome)
                if len(unscored) > most:
                    raise _unavailable(unscored, len(samples), most)
            return [task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def score_one(self, sample: RewardSample) -> Scored | Unscored:
        """Return the outcome of one sample, for callers that have no batch.

        Raises:
            RewardUnavailable: It could not be judged, and `on_failure` is "raise".
            RubricrmError: The jury could not be opened.
        """
        state = self._loop_state()
        outcome = await self._outcome(state, await state.jury(self._source), sample)
        if isinstance(outcome, Unscored) and self._max_unscored == 0:
            raise _unavailable([outcome], 1, 0)
        return outcome

    async def value(self, sample: RewardSample) -> Scored:
        """Return the reward of one sample, for trainers that know no sample without one.

        Raises:
            RewardUnavailable: It could not be judged.
            RubricrmError: The jury could not be opened.
        """
        outcome = await self.score_one(sample)
        if isinstance(outcome, Unscored):
            raise _unavailable([outcome], 1, 0)
        return outcome

    async def _outcome(self, state: _LoopState, jury: RewardJury, sample: RewardSample) -> Scored | Unscored:
        async with state.room:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await jury.reward(sample.request, sample.answer, sample.reference, rubric=sample.rubric)
            except TimeoutError:
                return Unscored(Reason.JUDGE_FAILED, f"not judged within {self._timeout_s:g} s", retryable=True)
            except OptionInvalid:
                raise  # of the jury's settings, and true of every sample
            except RubricrmError as error:
                return Unscored(Reason.JUDGE_FAILED, str(error), retryable=error.retryable)

    def _most_unscored(self, num_samples: int) -> int:
        share = math.floor(self._max_unscored * num_samples)
        return max(share, 1) if self._max_unscored and num_samples > 1 else share

    def _loop_state(self) -> _LoopState:
        if self._pid != os.getpid():
            self._forget_loops()  # a fork has the parent's loops and sockets, and may use neither
        with self._lock:
            for loop in [loop for loop in self._loops if loop.is_closed()]:
                del self._loops[loop]
            return self._loops.setdefault(asyncio.get_running_loop(), _LoopState(self._max_concurrency))

    def _forget_loops(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._loops: dict[asyncio.AbstractEventLoop, _LoopState] = {}

    def __getstate__(self) -> dict[str, Any]:
        own = ("_pid", "_lock", "_loops")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_loops()


def _unavailable(unscored: Sequence[Unscored], num_samples: int, most: int) -> RewardUnavailable:
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(u.reason for u in unscored).most_common())
    return RewardUnavailable(
        f"{len(unscored)} of {num_samples} samples could not be judged ({reasons}), expected at most {most}. The "
        f"first: {unscored[0].detail:.200}. See whether the judge is up, and go on from the last checkpoint."
    )
