"""What can fail while rewards are computed, beside the SDK's own vocabulary: same message form, same base class."""

from __future__ import annotations

from rubricrm.errors import RubricrmError


class RewardUnavailable(RubricrmError):
    """Too many samples could not be judged. It is an outage, and not a score of anything."""

    code = "REWARD_UNAVAILABLE"
    exit_code = 1
    retryable = True


class RewardManagerRefused(BaseException):
    """The trainer's settings would turn an outage into a score.

    It is no `Exception`: what it stands for are callers that turn every `Exception` into reward 0.
    """
