"""A metric for DeepEval: half a point for each order in which the judge prefers the actual output to the expected one.

    JUDGE=http://judge:8000 JUDGE_PROMPT=judge-prompt deepeval test run examples/evaluation/deepeval_metric.py

JUDGE is a judge's bundle, or a server with the prompt directory of its model. RUBRICS and RUBRICS_PROMPT say the same
of the model that writes the rubrics. DEEPEVAL_TELEMETRY_OPT_OUT=YES keeps DeepEval from reporting that it ran.
"""

from __future__ import annotations

import os
from typing import Any

from deepeval import assert_test
from deepeval.metrics import BaseMetric
from deepeval.test_case import LLMTestCase
from rubricrm_reward import JurySource, RubricReward
from rubricrm_reward.background_loop import run_in_background
from rubricrm_reward.sample import make_sample


class RubricMetric(BaseMetric):
    """A test case that cannot be judged has no score: it is an error, which DeepEval reports as such."""

    def __init__(self, reward: RubricReward, threshold: float = 0.5) -> None:
        self.threshold = threshold
        self.reward = reward  # DeepEval copies a metric by its arguments, and finds them by their names

    async def a_measure(self, test_case: LLMTestCase, *_: Any, **__: Any) -> float:
        """Compare a test case's actual output with its expected one."""
        sample = make_sample(
            "the test case",
            request=test_case.input,
            answer=test_case.actual_output,
            reference=test_case.expected_output,
            rubric=(test_case.metadata or {}).get("rubric"),
        )
        scored = await self.reward.value(sample)
        self.score = scored.value
        self.success = scored.value >= self.threshold
        self.reason = f"{scored.verdict.votes_for_a} votes for it, {scored.verdict.votes_for_b} against"
        return scored.value

    def measure(self, test_case: LLMTestCase, *_: Any, **__: Any) -> float:
        """As `a_measure`, for DeepEval without event loops."""
        return run_in_background(self.a_measure(test_case))

    def is_successful(self) -> bool:
        """Whether the last score reached the threshold."""
        return bool(self.success)

    @property
    def __name__(self) -> str:
        return "RubricRM"


def test_a_color() -> None:
    """One test case; a real one gets its actual output from the application."""
    environment = {
        name: os.environ.get(name.upper()) for name in ("judge", "judge_prompt", "rubrics", "rubrics_prompt")
    }
    source = JurySource(**environment)  # type: ignore[arg-type]
    case = LLMTestCase(
        input="Name a color and say where it is seen.",
        actual_output="Red is the color of ripe tomatoes.",
        expected_output="Blue: the sky.",
        metadata={"rubric": "1. The response names a color. [Hard Rule]\n"},
    )
    assert_test(case, [RubricMetric(RubricReward(source))])
