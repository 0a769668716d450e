"""For inspect-ai: the scorer `rubricrm_reward/rubric_judge`, which compares an answer with the sample's target.

    from rubricrm_reward.inspect import rubric_judge

    Task(dataset=..., solver=generate(), scorer=rubric_judge(judge="http://judge:8000", judge_prompt="judge-prompt"))

A sample that cannot be judged is unscored: inspect-ai leaves it out of all metrics, and counts it as unscored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rubricrm.judge.verdict import Scored, Unscored

from rubricrm_reward.rubric_reward import RubricReward
from rubricrm_reward.sample import RewardSample, make_sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspect_ai.scorer import Score, Scorer, Target
    from inspect_ai.solver import TaskState

    rubric_judge: Callable[..., Scorer]


def __getattr__(name: str) -> object:
    """Make the scorer when it is asked for: its decorator is inspect-ai's, which is not imported before."""
    if name != "rubric_judge":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made = _make_scorer()
    return made


def _make_scorer() -> Callable[..., Scorer]:
    from inspect_ai.scorer import mean, scorer, stderr

    def rubric_judge(reward: RubricReward | None = None, **settings: Any) -> Scorer:
        """Score 1, 0.5 or 0: the share of orders in which the judge prefers the answer to the sample's target.

        A sample's metadata may have a `rubric`.

        Args:
            reward: What judges; or the settings of one:
            **settings: As `RubricReward.from_settings`.
        """
        judging = reward or RubricReward.from_settings(settings)

        async def score(state: TaskState, target: Target) -> Score:
            return _score_of(await judging.score_one(_sample(state, target)), state.output.completion)

        return score

    registered: Callable[..., Scorer] = scorer(metrics=[mean(), stderr()])(rubric_judge)
    return registered


def _sample(state: TaskState, target: Target) -> RewardSample:
    return make_sample(
        f"sample {state.sample_id}",
        request=state.input_text,
        answer=state.output.completion,
        reference=target.text,
        rubric=state.metadata.get("rubric"),
    )


def _score_of(outcome: Scored | Unscored, answer: str) -> Score:
    from inspect_ai.scorer import Score

    if isinstance(outcome, Unscored):
        metadata = {"reason": str(outcome.reason), "retryable": outcome.retryable}
        return Score.unscored(reason="scoring_failed", answer=answer, explanation=outcome.detail, metadata=metadata)
    votes = {"A": "the answer won", "B": "the target won", "tie": "tie"}[outcome.verdict.winner]
    return Score(value=outcome.value, answer=answer, explanation=votes, metadata=outcome.verdict.to_dict())
