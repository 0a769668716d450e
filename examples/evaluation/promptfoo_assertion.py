"""An assertion for promptfoo: half a point for each order in which the judge prefers the output to the reference.

promptfooconfig.yaml beside this file names it. JUDGE and JUDGE_PROMPT are a judge's bundle, or a server and the prompt
directory of its model; RUBRICS and RUBRICS_PROMPT say the same of the model that writes the rubrics.
"""

from __future__ import annotations

import os
from typing import Any

from rubricrm_reward import JurySource, RubricReward
from rubricrm_reward.background_loop import run_in_background
from rubricrm_reward.sample import make_sample

NAMES = ("judge", "judge_prompt", "rubrics", "rubrics_prompt")
REWARD = RubricReward(JurySource(**{name: os.environ.get(name.upper()) for name in NAMES}))  # type: ignore[arg-type]


def get_assert(output: str, context: dict[str, Any]) -> dict[str, Any]:
    """Return promptfoo's result. An output that cannot be judged is an error: there is no result without a score."""
    values = context["vars"]
    sample = make_sample(
        "the test",
        request=values["request"],
        answer=output,
        reference=values["reference"],
        rubric=values.get("rubric"),
    )
    scored = run_in_background(REWARD.value(sample))
    votes = f"{scored.verdict.votes_for_a} votes for it, {scored.verdict.votes_for_b} against"
    return {"pass": scored.value >= 0.5, "score": scored.value, "reason": votes}
