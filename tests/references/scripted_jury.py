"""A jury whose outcomes are in the answers: what rewards and trainers make of each can be seen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from rubricrm.errors import RubricrmError
from rubricrm.judge.verdict import GIVEN, SWAPPED, Reason, Scored, Unscored, Verdict, Vote

# The last word of an answer, and the winners that the judge names in the two orders; None is no vote.
VOTES: dict[str, tuple[str | None, str | None]] = {"better": ("A", "A"), "equal": ("A", "B"), "worse": ("B", "B")}
VALUES = {"better": 1.0, "equal": 0.5, "worse": 0.0}
FAILURES = ("mute", "broken")


class JudgeBroken(RubricrmError):  # noqa: N818 (as those of the SDK)
    """The scripted judge fails."""

    code = "JUDGE_BROKEN"


@dataclass
class ScriptedJury:
    """What it says of an answer follows from its last word.

    `better`, `equal`, `worse`: a score. `mute`: no vote. `broken`: a typed error. `slow`: never ends. `bug`: an error
    that nobody foresaw. Any other word, as a policy may write it: equal. Where there is a script, its words count, one
    for each call.
    """

    dies_after: int | None = None
    script: tuple[str, ...] = ()
    calls: list[tuple[str, str, str, str | None]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    numbers: Iterator[int] = field(default_factory=count)

    async def reward(
        self, request: str, answer: str, reference: str, *, rubric: str | None = None
    ) -> Scored | Unscored:
        self.calls.append((request, answer, reference, rubric))
        number = next(self.numbers)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(0.001 * (number % 3))  # so that they end in another order
            if self.dies_after is not None and number >= self.dies_after:
                raise JudgeBroken("no connection to the judge")
            written = answer.split()[-1] if answer.split() else ""
            return await self._outcome(self.script[number % len(self.script)] if self.script else written)
        finally:
            self.running -= 1

    async def _outcome(self, word: str) -> Scored | Unscored:
        if word == "bug":
            raise ZeroDivisionError
        if word == "broken":
            raise JudgeBroken("the judge failed")
        if word == "slow":
            await asyncio.Event().wait()
        if word == "mute":
            return Unscored(Reason.NO_QUORUM, "no vote in the given order", False, _votes(None, "B"))
        winners = VOTES.get(word, VOTES["equal"])
        return Scored(VALUES.get(word, 0.5), Verdict(_votes(*winners)))


@dataclass(frozen=True)
class ScriptedSource:
    """Opens scripted juries, and remembers them by process: it can be pickled, they cannot."""

    dies_after: int | None = None
    script: tuple[str, ...] = ()
    opens: bool = True

    async def open(self) -> ScriptedJury:
        if not self.opens:
            raise JudgeBroken("the judge cannot be opened")
        jury = ScriptedJury(self.dies_after, self.script)
        OPENED.append(jury)
        return jury


OPENED: list[ScriptedJury] = []


def _votes(given: str | None, swapped: str | None) -> tuple[Vote, ...]:
    return Vote(GIVEN, given, 1), Vote(SWAPPED, swapped, 2)  # type: ignore[arg-type]
