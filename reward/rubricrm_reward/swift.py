"""For ms-swift: a reward of `RubricReward` under a name for `--reward_funcs`.

A plugin file of your own, for `--external_plugins plugin.py --reward_funcs rubricrm`, has these lines:

    from rubricrm_reward import JurySource, RubricReward
    from rubricrm_reward.swift import register

    register(RubricReward(JurySource("http://judge:8000", judge_prompt="judge-prompt")))

ms-swift puts the directory of a plugin before all others on `sys.path`. So give it a file of your own, and not the one
of this module: the files beside it have the names of trainers.
"""

from __future__ import annotations

from collections.abc import Sequence

from rubricrm.errors import DependencyMissing, OptionInvalid
from rubricrm.judge.verdict import Scored

from rubricrm_reward.rubric_reward import RubricReward
from rubricrm_reward.sample import make_samples


class SwiftReward:
    """An `AsyncORM` in all but its base class. A completion that could not be judged is None, and left out."""

    def __init__(self, reward: RubricReward, *, reference: str = "reference", rubric: str = "rubric") -> None:
        """Wrap a reward; the arguments are those of `TRLReward`."""
        self._reward = reward
        self._reference = reference
        self._rubric = rubric

    async def __call__(self, completions: Sequence[object], **columns: object) -> list[float | None]:
        """Return the reward of each completion, or None. Requests are the last user messages of the column `messages`.

        Raises:
            RewardUnavailable: More completions could not be judged than `RubricReward` allows.
            OptionInvalid: A column is missing.
            RequestInvalid: A row of the data set has no request or reference that can be judged.
        """
        messages = columns.get("messages")
        if not isinstance(messages, Sequence) or len(messages) != len(completions):
            raise OptionInvalid(f"ms-swift handed over no messages for {len(completions)} completions.")
        samples = make_samples(messages, completions, columns, reference=self._reference, rubric=self._rubric)
        outcomes = await self._reward.score(samples)
        return [outcome.value if isinstance(outcome, Scored) else None for outcome in outcomes]


def register(
    reward: RubricReward, *, name: str = "rubricrm", reference: str = "reference", rubric: str = "rubric"
) -> None:
    """Let ms-swift know the reward by a name.

    Raises:
        DependencyMissing: ms-swift is not installed.
    """
    try:
        from swift.rewards import orms
    except ImportError as error:
        raise DependencyMissing(f"the reward {name!r} needs ms-swift, which cannot be imported: {error}.") from error

    def make(args: object = None) -> SwiftReward:  # noqa: ARG001 (the trainer's settings)
        return SwiftReward(reward, reference=reference, rubric=rubric)

    orms[name] = make
