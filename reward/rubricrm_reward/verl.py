"""For verl: `compute_score`, a function for `reward.custom_reward_function`.

    reward.custom_reward_function.path=pkg://rubricrm_reward.verl
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.judge=http://judge:8000
    +reward.custom_reward_function.reward_kwargs.judge_prompt=/data/judge-prompt

verl hands over no prompt. So the column `extra_info` of the data holds `request`, and may hold `rubric`. The reference
answer is `extra_info["reference"]`, or where that is missing the row's `ground_truth`.

A sample that cannot be judged raises `RewardUnavailable`, since verl has no value for it. Trainer V1 takes the sample's
group as failed; its option `sync_refill_failed_groups` has the synchronous mode replace such groups.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError
from collections.abc import Mapping
from types import FrameType

from rubricrm_reward.errors import RewardManagerRefused, RewardUnavailable
from rubricrm_reward.rubric_reward import RubricReward
from rubricrm_reward.sample import make_sample

# Reward managers that make 0 of every exception: the class, and its name in the configuration.
_REFUSED = {"RateLimitedRewardManager": "rate_limited"}


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: object,
    extra_info: Mapping[str, object] | None = None,
    *,
    reward_router_address: str | None = None,  # noqa: ARG001 (of verl's own reward models)
    reward_model_tokenizer: object = None,  # noqa: ARG001 (as above)
    **reward_kwargs: object,
) -> dict[str, float]:
    """Return the reward of one answer. The keys are always the same, as verl needs it.

    Args:
        data_source: The row's data set, for errors.
        solution_str: The answer.
        ground_truth: The reference answer, where `extra_info` has none.
        extra_info: `request`, and where there are `reference` and `rubric`: texts or lists of chat messages.
        reward_router_address: Unused.
        reward_model_tokenizer: Unused.
        **reward_kwargs: What `RubricReward.from_settings` takes: `judge`, `judge_prompt`, `votes`, `timeout_s`, ...

    Returns:
        `score`, the valid votes `votes_for` and `votes_against` the answer, and `no_vote`.

    Raises:
        RewardUnavailable: The sample could not be judged, or verl gave up waiting.
        RequestInvalid: The row has no request or reference that can be judged.
        RewardManagerRefused: The reward manager would make 0 of the errors above.
    """
    _refuse_manager(sys._getframe(1))
    info = extra_info or {}
    sample = make_sample(
        f"a row of {data_source}",
        request=info.get("request"),
        answer=solution_str,
        reference=info.get("reference", ground_truth),
        rubric=info.get("rubric"),
    )
    reward = _reward(reward_kwargs)
    try:
        verdict = (scored := await reward.value(sample)).verdict
    except CancelledError as error:
        # A caller's timeout: some take it for a score of 0, and this error for none.
        raise RewardUnavailable("verl stopped waiting for a judgment. Give a smaller timeout_s.") from error
    return {
        "score": scored.value,
        "votes_for": float(verdict.votes_for_a),
        "votes_against": float(verdict.votes_for_b),
        "no_vote": float(verdict.no_vote),
    }


_rewards: dict[str, RubricReward] = {}


def _reward(settings: Mapping[str, object]) -> RubricReward:
    """Return the reward of these settings: the same for all samples, so that they share its limits."""
    key = repr(sorted(settings.items()))
    if key not in _rewards:
        _rewards[key] = RubricReward.from_settings(settings)
    return _rewards[key]


def _refuse_manager(frame: FrameType | None) -> None:
    """Refuse to be awaited by a reward manager that turns outages into scores."""
    while frame is not None:
        name = _REFUSED.get(frame.f_code.co_qualname.partition(".")[0])
        if name is not None:
            raise RewardManagerRefused(
                f"verl's reward manager {name} makes reward 0 of every outage, which no training can tell from a bad "
                "answer. Set reward.reward_manager.name=naive, and limit the load by the reward_kwarg max_concurrency."
            )
        frame = frame.f_back
