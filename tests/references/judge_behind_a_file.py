"""A jury for every `JurySource`, that is up as long as the file which $JUDGE_UP names is there.

For trainers that open the reward in processes of their own: `compute_score` is verl's function with such a jury.
"""

from __future__ import annotations

import os
from pathlib import Path

from rubricrm.judge.verdict import Scored, Unscored
from rubricrm_reward.jury_source import JurySource
from rubricrm_reward.verl import compute_score as compute_score
from scripted_jury import JudgeBroken, ScriptedJury


class JuryBehindAFile(ScriptedJury):
    """A scripted jury that fails while the file is missing."""

    async def reward(
        self, request: str, answer: str, reference: str, *, rubric: str | None = None
    ) -> Scored | Unscored:
        """As `ScriptedJury.reward`."""
        if not Path(os.environ["JUDGE_UP"]).exists():
            raise JudgeBroken("no connection to the judge")
        return await super().reward(request, answer, reference, rubric=rubric)


async def _open(_: JurySource) -> JuryBehindAFile:
    return JuryBehindAFile()


JurySource.open = _open  # type: ignore[method-assign, assignment]
