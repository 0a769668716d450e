"""Rewards from rubrics and a judge, one file per trainer. No trainer is imported before it is used."""

from __future__ import annotations

from rubricrm_reward.errors import RewardUnavailable as RewardUnavailable
from rubricrm_reward.jury_source import JurySource as JurySource
from rubricrm_reward.rubric_reward import RubricReward as RubricReward
from rubricrm_reward.sample import RewardSample as RewardSample
