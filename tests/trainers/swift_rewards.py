"""ms-swift's own computation of rewards with ours, found in its registry by name. Prints what it saw as JSON."""

from __future__ import annotations

import json
from typing import Any

import torch
from rubricrm_reward import RewardUnavailable, RubricReward
from rubricrm_reward.swift import register
from scripted_jury import ScriptedSource
from swift.rewards import orms
from swift.rl_core.data import GRPOSample
from swift.rl_core.grpo_algorithm import compute_rewards_per_func


def samples(*words: str) -> list[Any]:
    """Answers as ms-swift has them after a rollout."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Name a color."},
                {"role": "assistant", "content": f"Red is {word}"},
            ],
            "reference": "Blue.",
        }
        for word in words
    ]
    return [GRPOSample.from_row(row) for row in rows]


def main() -> None:
    """Score a batch with one missing verdict; then one without a judge."""
    register(RubricReward(ScriptedSource(), max_unscored=0.25))
    functions = [orms["rubricrm"](args=None)]
    seen: dict[str, Any] = {}
    rewards = compute_rewards_per_func(
        samples("better", "worse", "mute", "equal"), functions, [None], torch.device("cpu")
    )
    seen["rewards"] = [None if value != value else value for value in rewards[:, 0].tolist()]
    try:
        compute_rewards_per_func(samples("broken", "broken"), functions, [None], torch.device("cpu"))
    except RewardUnavailable as error:
        seen["ended"] = str(error)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
