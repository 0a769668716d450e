"""A jury: several samples of a judge on two answers, in both orders, become a verdict or a reward."""

from __future__ import annotations

from concurrent.futures import wait
from typing import Literal, Unpack

from rubricrm.errors import OptionInvalid, PromptTooLong, RequestInvalid, RubricrmError
from rubricrm.generation.options import GenerationOptions, OptionKeywords, merge
from rubricrm.judge.poll import Case, Judge, Poll
from rubricrm.judge.rubric_cache import RubricCache, RubricMaker
from rubricrm.judge.verdict import GIVEN, SWAPPED, Order, Reason, Scored, Unscored, Verdict, score, tally
from rubricrm.runtime.prompt import check_text

_ORDERS: dict[str, tuple[Order, ...]] = {"both": (GIVEN, SWAPPED), "given": (GIVEN,)}


class Panel:
    """What a jury is made of: a judge, rubrics, and how often the judge is asked. `Jury` and `AsyncJury` have one each.

    Attributes:
        votes: Samples in each order.
        orders: The orders that are asked.
        options: How the judge samples.
    """

    def __init__(
        self,
        judge: Judge,
        rubrics: RubricMaker | None,
        votes: int,
        orders: str,
        cache_size: int,
        options: GenerationOptions,
    ) -> None:
        """Check what can be checked before anything is judged; arguments as `Jury`."""
        if type(votes) is not int or votes < 1:
            raise OptionInvalid(f"votes must be an integer from 1 on, got {votes!r:.80}.")
        if orders not in _ORDERS:
            raise OptionInvalid(f"orders must be one of {', '.join(_ORDERS)}, got {orders!r:.80}.")
        if votes > 1 and options.is_greedy:
            raise OptionInvalid(
                f"votes is {votes} at temperature 0: all votes of an order would be the same. Give a temperature, the "
                "papers have 0.7, or votes=1."
            )
        self.votes = votes
        self.orders = _ORDERS[orders]
        self.options = options
        self._judge = judge
        self._rubrics = None if rubrics is None else RubricCache(rubrics, cache_size)

    @property
    def rubrics(self) -> RubricCache:
        """The rubrics that are made here.

        Raises:
            OptionInvalid: There is no model that makes them.
        """
        if self._rubrics is None:
            raise OptionInvalid(
                "rubric: got none, and this jury has no model that makes one. Pass rubric=, or rubrics=."
            )
        return self._rubrics

    def check_reward(self) -> None:
        """Check that rewards can be computed.

        Raises:
            OptionInvalid: One order alone is asked.
        """
        if self.orders != _ORDERS["both"]:
            raise OptionInvalid('orders is "given": a reward needs both orders. Make the jury with orders="both".')

    def start(self, case: Case) -> Poll | Unscored:
        """Ask for the votes of a case."""
        try:
            return Poll(self._judge, case, self.orders, self.votes, self.options)
        except (RequestInvalid, PromptTooLong) as error:
            return unusable(error)


def checked(request: str, a: str, b: str, rubric: str | None) -> Unscored | None:
    """Look at the texts before anything is computed; None: they can be judged."""
    texts = {"request": request, "a": a, "b": b} | ({} if rubric is None else {"rubric": rubric})
    try:
        for name, text in texts.items():
            check_text(text, name)
    except RequestInvalid as error:
        return unusable(error)
    return None


def unusable(error: RubricrmError) -> Unscored:
    """Return what texts give that no judge can read."""
    return Unscored(Reason.INPUT_INVALID, str(error), retryable=False)


def without_rubric(error: RubricrmError) -> Unscored:
    """Return what a request gives whose rubric could not be made."""
    return Unscored(Reason.RUBRIC_FAILED, str(error), error.retryable)


class Jury:
    """Compares answers by the votes of a judge. For any number of threads.

    A sample that names no winner is no vote. An order of the answers needs votes of more than half of its samples; else
    there is no verdict but `Unscored`, which says why and holds no number. The same is returned where the judge fails,
    where a rubric cannot be made, and where an answer is blank or does not fit the judge's context. All samples of a
    comparison are computed together.

    Example:
        >>> jury = Jury(judge, RubricModel.open("bundle"), votes=5)
        >>> outcome = jury.reward("Write a haiku about rain.", answer, reference)
        >>> if isinstance(outcome, Scored):
        ...     print(outcome.value)
    """

    def __init__(
        self,
        judge: Judge,
        rubrics: RubricMaker | None = None,
        *,
        votes: int = 1,
        orders: Literal["both", "given"] = "both",
        cache_size: int = 1024,
        options: GenerationOptions | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> None:
        """Take a judge that is open; it stays the caller's, who closes it.

        Args:
            judge: A `JudgeModel`.
            rubrics: A `RubricModel` that makes the rubric of a request, once; None: each call brings one.
            votes: Samples in each order. With one, a comparison costs two.
            orders: "both", or "given" where a comparison must cost half: a judge may prefer what it sees first.
            cache_size: Most rubrics that are kept.
            options: How the judge samples; None: as its bundle tells.
            **keywords: As in `RubricModel.generate`. The seed is 0 if none is given: equal calls have equal votes.

        Raises:
            OptionInvalid: An argument or option is out of range, or several votes are asked for at temperature 0.
        """
        self._panel = Panel(judge, rubrics, votes, orders, cache_size, sampling(judge, options, keywords))

    def compare(self, request: str, a: str, b: str, *, rubric: str | None = None) -> Verdict | Unscored:
        """Return which of two answers is better.

        Args:
            request: What both answer.
            a: An answer; the verdict calls it A, in whichever order the judge saw it.
            b: Another one.
            rubric: The rubric's text; None has the jury's model make it.

        Raises:
            OptionInvalid: There is neither a rubric nor a model that makes it.
        """
        text = self._rubric(request, a, b, rubric)
        poll = self._panel.start(Case(request, text, a, b)) if isinstance(text, str) else text
        if isinstance(poll, Unscored):
            return poll
        try:
            wait(poll.futures)
        except BaseException:  # Ctrl-C: nobody reads them
            poll.cancel()
            raise
        return tally(poll.votes())

    def reward(self, request: str, answer: str, reference: str, *, rubric: str | None = None) -> Scored | Unscored:
        """Return the reward of an answer beside a reference, from 0 to 1: see `verdict.score`.

        Args:
            request: What both answer.
            answer: What is rewarded.
            reference: What it is compared with: in the paper, the policy's greedy answer.
            rubric: As in `compare`.

        Raises:
            OptionInvalid: As `compare`; or the jury asks one order alone.
        """
        self._panel.check_reward()
        verdict = self.compare(request, answer, reference, rubric=rubric)
        return score(verdict) if isinstance(verdict, Verdict) else verdict

    def _rubric(self, request: str, a: str, b: str, rubric: str | None) -> str | Unscored:
        if problem := checked(request, a, b, rubric):
            return problem
        if rubric is not None:
            return rubric
        rubrics = self._panel.rubrics
        try:
            return rubrics.get(request).result()
        except RubricrmError as error:
            return without_rubric(error)


def sampling(judge: Judge, options: GenerationOptions | None, keywords: OptionKeywords) -> GenerationOptions:
    """Return how a judge samples, with a seed: 0 if none is given."""
    found = merge(options or judge.default_options, keywords)
    return merge(found, {"seed": 0}) if found.seed is None else found
