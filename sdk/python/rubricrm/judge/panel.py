"""What juries share: how they are made, and all that is done before anybody waits."""

from __future__ import annotations

from typing import Literal, Unpack

from rubricrm.errors import OptionInvalid, PromptTooLong, RequestInvalid, RubricrmError
from rubricrm.generation.options import GenerationOptions, OptionKeywords, merge
from rubricrm.judge.poll import Case, Judge, Poll
from rubricrm.judge.rubric_cache import RubricCache, RubricMaker
from rubricrm.judge.verdict import GIVEN, SWAPPED, Order, Reason, Unscored
from rubricrm.runtime.prompt import check_text

_ORDERS: dict[str, tuple[Order, ...]] = {"both": (GIVEN, SWAPPED), "given": (GIVEN,)}


class Panel:
    """A judge, rubrics, and how often the judge is asked: what `Jury` and `AsyncJury` are built on."""

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
        if type(votes) is not int or votes < 1:
            raise OptionInvalid(f"votes must be an integer from 1 on, got {votes!r:.80}.")
        if orders not in _ORDERS:
            raise OptionInvalid(f"orders must be one of {', '.join(_ORDERS)}, got {orders!r:.80}.")
        self._options = _with_seed(merge(options or judge.default_options, keywords))
        if votes > 1 and self._options.is_greedy:
            raise OptionInvalid(
                f"votes is {votes} at temperature 0: all votes of an order would be the same. Give a temperature, the "
                "papers have 0.7, or votes=1."
            )
        self._votes = votes
        self._orders = _ORDERS[orders]
        self._judge = judge
        self._cache = None if rubrics is None else RubricCache(rubrics, cache_size)

    @property
    def _rubrics(self) -> RubricCache:
        """The rubrics that are made here.

        Raises:
            OptionInvalid: There is no model that makes them.
        """
        if self._cache is None:
            raise OptionInvalid(
                "rubric: got none, and this jury has no model that makes one. Pass rubric=, or rubrics=."
            )
        return self._cache

    def _check_reward(self) -> None:
        """Check that rewards can be computed.

        Raises:
            OptionInvalid: One order alone is asked.
        """
        if self._orders != _ORDERS["both"]:
            raise OptionInvalid('orders is "given": a reward needs both orders. Make the jury with orders="both".')

    def _start_poll(self, case: Case) -> Poll | Unscored:
        """Ask for the votes of a case."""
        try:
            return Poll(self._judge, case, self._orders, self._votes, self._options)
        except (RequestInvalid, PromptTooLong) as error:
            return _unusable(error)


def given_rubric(request: str, a: str, b: str, rubric: str | None) -> str | Unscored | None:
    """Look at the texts before anything is computed, and return the rubric; None: it is still to be made."""
    texts = {"request": request, "a": a, "b": b} | ({} if rubric is None else {"rubric": rubric})
    try:
        for name, text in texts.items():
            check_text(text, name)
    except RequestInvalid as error:
        return _unusable(error)
    return rubric


def without_rubric(error: RubricrmError) -> Unscored:
    """Return what a request gives whose rubric could not be made."""
    return Unscored(Reason.RUBRIC_FAILED, str(error), error.retryable)


def _unusable(error: RubricrmError) -> Unscored:
    """Return what texts give that no judge can read."""
    return Unscored(Reason.INPUT_INVALID, str(error), retryable=False)


def _with_seed(options: GenerationOptions) -> GenerationOptions:
    return merge(options, {"seed": 0}) if options.seed is None else options
