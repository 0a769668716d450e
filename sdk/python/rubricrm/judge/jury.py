"""A jury: several samples of a judge on two answers, in both orders, become a verdict or a reward."""

from __future__ import annotations

from concurrent.futures import wait

from rubricrm.errors import RubricrmError
from rubricrm.judge.panel import Panel, given_rubric, without_rubric
from rubricrm.judge.poll import Case
from rubricrm.judge.verdict import Scored, Unscored, Verdict, score, tally


class Jury(Panel):
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
        poll = self._start_poll(Case(request, text, a, b)) if isinstance(text, str) else text
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
        self._check_reward()
        verdict = self.compare(request, answer, reference, rubric=rubric)
        return score(verdict) if isinstance(verdict, Verdict) else verdict

    def _rubric(self, request: str, a: str, b: str, rubric: str | None) -> str | Unscored:
        found = given_rubric(request, a, b, rubric)
        if found is not None:
            return found
        rubrics = self._rubrics
        try:
            return rubrics.get(request).result()
        except RubricrmError as error:
            return without_rubric(error)
