"""Texts that leave a thought open."""

from __future__ import annotations

import pytest
from rubricrm.rubric.thought import leaves_open


@pytest.mark.parametrize(
    "generation",
    [
        "<|im_start|>assistant\n<think>\n",
        "<|im_start|>assistant\n<thinking>",
        "<reasoning>\n",
        "<analysis>",
        "<thought>",
        '<think lang="en" mode="long">',
        "< think >",
        "<THINK>",
        "[THINK]",
        "<|begin_of_thought|>\n\n",
        "<|START_THINKING|>",
        "<seed:think>",
        "\u25c1think\u25b7",
        "<|start|>assistant<|channel|>analysis<|message|>",
        "<think>\n\n</think>\n\n<think>\n",
    ],
)
def test_generation_prompt_that_opens_a_thought(generation: str) -> None:
    assert leaves_open(generation)


@pytest.mark.parametrize(
    "generation",
    [
        "",
        "<|im_start|>assistant\n",
        "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "<|im_start|>assistant\n</think>\n\n",
        "<think/>",
        "[THINK][/THINK]",
        "<|begin_of_thought|><|end_of_thought|>",
        "<|START_THINKING|><|END_THINKING|><|START_RESPONSE|>",
        "<seed:think></seed:think>",
        "\u25c1think\u25b7\u25c1/think\u25b7",
        "<|start|>assistant<|channel|>final<|message|>",
        "Think about it: <b>thought</b> [thoughtful]",
        "<|thinker|>",
    ],
)
def test_generation_prompt_that_opens_none(generation: str) -> None:
    assert not leaves_open(generation)
