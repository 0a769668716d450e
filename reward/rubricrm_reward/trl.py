"""For TRL's GRPOTrainer, RLOOTrainer and AsyncGRPOTrainer: a reward function of `RubricReward`.

A completion that could not be judged is `None`. These trainers leave it out of its group's mean and deviation, and give
it the advantage 0; no other value would do. OnlineDPOTrainer would take None for 0, and calls no asynchronous function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rubricrm.judge.verdict import Scored, Unscored, Vote

from rubricrm_reward.rubric_reward import RubricReward
from rubricrm_reward.sample import make_samples


class TRLReward:
    """A function for `reward_funcs`: asynchronous, and picklable if the reward is.

    The data set has a column with the reference answer of each prompt: a pairwise judge needs one, and a process may
    see only a part of a group. A column `rubric` with the texts of rubrics saves making them.

    In the trainer's logs `rubricrm/unscored` is the share of completions that could not be judged, `rubricrm/no_vote`
    the share of the judge's samples that were no vote, and the column `rubricrm` of the completions says which answer
    won, or why there is no verdict.

    Example:
        >>> from trl import GRPOTrainer
        >>> trainer = GRPOTrainer(model, reward_funcs=TRLReward(reward), train_dataset=dataset)
    """

    def __init__(self, reward: RubricReward, *, reference: str = "reference", rubric: str = "rubric") -> None:
        """Wrap a reward.

        Args:
            reward: What judges.
            reference: The column of reference answers: texts, or lists of chat messages.
            rubric: The column of rubrics, which the data set may lack. None in a row: the jury makes it.
        """
        self.__name__ = "rubricrm"  # the trainer's name for this reward in its logs
        self._reward = reward
        self._reference = reference
        self._rubric = rubric

    async def __call__(
        self,
        *,
        prompts: Sequence[object],
        completions: Sequence[object],
        log_extra: Callable[[str, list[str]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: object,
    ) -> list[float | None]:
        """Return the reward of each completion, or None.

        Raises:
            RewardUnavailable: More completions could not be judged than `RubricReward` allows.
            OptionInvalid: The data set has no column of reference answers.
            RequestInvalid: A row of the data set has no request or reference that can be judged.
        """
        samples = make_samples(prompts, completions, columns, reference=self._reference, rubric=self._rubric)
        outcomes = await self._reward.score(samples)
        if log_metric is not None:
            for name, value in metrics(outcomes).items():
                log_metric(name, value)
        if log_extra is not None:
            log_extra("rubricrm", [_summary(outcome) for outcome in outcomes])
        return [outcome.value if isinstance(outcome, Scored) else None for outcome in outcomes]


def metrics(outcomes: Sequence[Scored | Unscored]) -> dict[str, float]:
    """Return the shares that are logged: of samples without a number, and of the judge's samples that were no vote."""
    votes = [vote for outcome in outcomes for vote in _votes(outcome)]
    return {
        "rubricrm/unscored": _share([isinstance(outcome, Unscored) for outcome in outcomes]),
        "rubricrm/no_vote": _share([vote.winner is None for vote in votes]),
    }


def _votes(outcome: Scored | Unscored) -> tuple[Vote, ...]:
    return outcome.verdict.votes if isinstance(outcome, Scored) else outcome.votes


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def _summary(outcome: Scored | Unscored) -> str:
    if isinstance(outcome, Unscored):
        return f"unscored: {outcome.reason}"
    return {"A": "the answer won", "B": "the reference won", "tie": "tie"}[outcome.verdict.winner]
