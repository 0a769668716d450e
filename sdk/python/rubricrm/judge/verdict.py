"""What a jury says of two answers: votes, a `Verdict` of them, and rewards with and without a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, Literal

from rubricrm.errors import OptionInvalid
from rubricrm.judge.judgment import ISSUES, Choice

Winner = Literal["A", "B", "tie"]

# In which order a judge was shown the two answers: as the caller gave them, or the other way round.
Order = Literal["given", "swapped"]
GIVEN: Order = "given"
SWAPPED: Order = "swapped"


class Reason(StrEnum):
    """Why there is no verdict. Each is a plain string too."""

    NO_QUORUM = "no_quorum"
    TRUNCATED = "truncated"
    JUDGE_FAILED = "judge_failed"
    RUBRIC_FAILED = "rubric_failed"
    INPUT_INVALID = "input_invalid"


@dataclass(frozen=True, slots=True)
class Vote:
    """One sample of the judge.

    Attributes:
        order: Whether it was shown the answers as given, or swapped.
        winner: The answer it prefers, by the caller's names: "A" is the caller's first one in both orders. None: no
            vote.
        seed: With it, the same judge writes the same text; None where the judge failed before it had one.
        issues: Why its text is no vote, keys of `judgment.ISSUES`.
        failure: The error that the judge met in place of a text, beginning with its code; else None.
        retryable: Whether asking again may give a vote: a server was busy, or the time was over.
        text: What the judge wrote; there it calls the answers by the order it saw. None where it failed.
    """

    order: Order
    winner: Choice | None
    seed: int | None
    issues: tuple[str, ...] = ()
    failure: str | None = None
    retryable: bool = False
    text: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "order": self.order,
            "winner": self.winner,
            "seed": self.seed,
            "issues": list(self.issues),
            "failure": self.failure,
            "retryable": self.retryable,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of two answers is better, by a quorum of votes.

    Each order of the answers weighs the same, however many of its samples are valid: a judge that prefers whatever it
    sees first must not win by its failures.

    Attributes:
        votes: All samples, valid or not: those of the given order first, then those of the swapped one.

    Raises:
        OptionInvalid: There is no quorum.
    """

    votes: tuple[Vote, ...]

    def __post_init__(self) -> None:
        """Refuse votes that decide nothing."""
        if problem := missing_quorum(self.votes):
            raise OptionInvalid(f"a verdict: {problem}. Use tally(votes), which says so without raising.")

    @property
    def winner(self) -> Winner:
        """The answer with the larger share of valid votes, the mean over the orders; "A" is the caller's first one."""
        return _winner(sum(map(self._share, self.orders), Fraction(0)) / len(self.orders))

    @property
    def votes_for_a(self) -> int:
        """Valid votes for the caller's first answer."""
        return _count(self.votes, "A")

    @property
    def votes_for_b(self) -> int:
        """Valid votes for the caller's second answer."""
        return _count(self.votes, "B")

    @property
    def no_vote(self) -> int:
        """Samples that are no vote: their texts name no winner, or the judge failed."""
        return len(self.votes) - self.votes_for_a - self.votes_for_b

    @property
    def consistent(self) -> bool | None:
        """Whether both orders have the same winner; None where only one order was asked."""
        return None if len(self.orders) == 1 else len({self.winner_of(order) for order in self.orders}) == 1

    @property
    def failures(self) -> tuple[str, ...]:
        """The errors that samples met, each beginning with its code."""
        return tuple(vote.failure for vote in self.votes if vote.failure is not None)

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """The seed of each vote."""
        return tuple(vote.seed for vote in self.votes)

    @property
    def orders(self) -> tuple[Order, ...]:
        """The orders that were asked."""
        return tuple(dict.fromkeys(vote.order for vote in self.votes))

    def winner_of(self, order: Order) -> Winner:
        """The majority of one order's valid votes."""
        return _winner(self._share(order))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "winner": self.winner,
            "votes_for_a": self.votes_for_a,
            "votes_for_b": self.votes_for_b,
            "no_vote": self.no_vote,
            "consistent": self.consistent,
            "failures": list(self.failures),
            "votes": [vote.to_dict() for vote in self.votes],
        }

    def _share(self, order: Order) -> Fraction:
        votes = [vote for vote in self.votes if vote.order == order]
        for_a, for_b = _count(votes, "A"), _count(votes, "B")
        return Fraction(for_a, for_a + for_b)


@dataclass(frozen=True, slots=True)
class Scored:
    """A reward. Of all that a jury returns, this alone holds a number.

    Attributes:
        value: From 0 to 1.
        verdict: What it was computed from.
    """

    value: float
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"value": self.value, "verdict": self.verdict.to_dict()}


@dataclass(frozen=True, slots=True)
class Unscored:
    """No verdict, and therefore no number: a failure is never a score.

    Attributes:
        reason: One of `Reason`.
        detail: What happened, for people.
        retryable: Whether the same call may succeed later: a server was busy, say. It may not where the texts of this
            judge, with these seeds, are no votes.
        votes: The samples that were taken all the same.
    """

    reason: Reason
    detail: str
    retryable: bool
    votes: tuple[Vote, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "reason": str(self.reason),
            "detail": self.detail,
            "retryable": self.retryable,
            "votes": [vote.to_dict() for vote in self.votes],
        }


def missing_quorum(votes: Iterable[Vote]) -> str | None:
    """Say which order lacks its quorum: more than half of its samples must be votes. None: no order does."""
    votes = tuple(votes)
    for order in dict.fromkeys(vote.order for vote in votes):
        asked = [vote for vote in votes if vote.order == order]
        valid = sum(vote.winner is not None for vote in asked)
        if 2 * valid <= len(asked):
            return f"{valid} of {len(asked)} samples of the {order} order are votes, expected more than half"
    return None if votes else "there are no samples"


def tally(votes: Iterable[Vote]) -> Verdict | Unscored:
    """Return the verdict of votes, or why there is none.

    Where samples are missing, the reason is JUDGE_FAILED if the judge met an error in any of them, TRUNCATED if all
    others were cut, and else NO_QUORUM.
    """
    votes = tuple(votes)
    problem = missing_quorum(votes)
    if problem is None:
        return Verdict(votes)
    lost = [vote for vote in votes if vote.winner is None]
    failures = list(dict.fromkeys(vote.failure for vote in lost if vote.failure is not None))
    issues = Counter(issue for vote in lost for issue in vote.issues)
    reason = Reason.NO_QUORUM
    if failures:
        reason = Reason.JUDGE_FAILED
    elif set(issues) == {"truncated"}:
        reason = Reason.TRUNCATED
    causes = [*failures, *(f"{count} x {issue} ({ISSUES[issue]})" for issue, count in issues.items())]
    retryable = any(vote.retryable for vote in lost)
    return Unscored(reason, f"{problem}: {'; '.join(causes) or 'nothing was asked'}.", retryable, votes)


def score(verdict: Verdict) -> Scored:
    """Return the reward of the caller's first answer: the mean over the orders of whether it won.

    With one vote in each of both orders it is that of Rubric-ARM (arXiv 2602.01511, equations 14 to 16): half of
    I[the answer wins as A] + I[it wins as B]. With several votes an order's winner is its majority; an order whose
    votes are equal counts as half, so that both answers' rewards always add up to 1.
    """
    worth = {"A": Fraction(1), "B": Fraction(0), "tie": Fraction(1, 2)}
    total = sum((worth[verdict.winner_of(order)] for order in verdict.orders), Fraction(0))
    return Scored(float(total / len(verdict.orders)), verdict)


def _count(votes: Iterable[Vote], winner: Choice) -> int:
    return sum(vote.winner == winner for vote in votes)


def _winner(share: Fraction) -> Winner:
    """Return who wins with the first answer's share of votes."""
    return "tie" if 2 * share == 1 else "A" if 2 * share > 1 else "B"
