"""ms-swift's reward function, registered in a stand-in for its registry."""

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest
from rubricrm.errors import DependencyMissing, OptionInvalid
from rubricrm_reward import RewardUnavailable, RubricReward
from rubricrm_reward.swift import SwiftReward, register
from scripted_jury import ScriptedJury, ScriptedSource

MESSAGES = [{"role": "user", "content": "Name a color."}, {"role": "assistant", "content": "Red is better"}]


def call(words: list[str], **options: Any) -> list[float | None]:
    function = SwiftReward(RubricReward(ScriptedSource(), **options))
    columns = {"messages": [MESSAGES] * len(words), "reference": ["Blue."] * len(words), "trainer_state": object()}
    return asyncio.run(function(words, **columns))


def test_a_completion_without_a_verdict_is_none(opened: list[ScriptedJury]) -> None:
    assert call(["better", "broken", "worse"], max_unscored=0.5) == [1.0, None, 0.0]
    assert opened[0].calls[0] == ("Name a color.", "better", "Blue.", None)
    with pytest.raises(RewardUnavailable):
        call(["broken", "broken", "worse"])


def test_messages_are_needed() -> None:
    with pytest.raises(OptionInvalid, match="no messages for 1 completions"):
        asyncio.run(SwiftReward(RubricReward(ScriptedSource()))(["better"], reference=["Blue."]))


def test_it_is_registered_under_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    package, rewards = ModuleType("swift"), ModuleType("swift.rewards")
    rewards.orms = {}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swift", package)
    monkeypatch.setitem(sys.modules, "swift.rewards", rewards)
    register(RubricReward(ScriptedSource()), name="mine")
    assert isinstance(rewards.orms["mine"](args=object()), SwiftReward)  # type: ignore[attr-defined]


def test_without_ms_swift_it_says_so() -> None:
    with pytest.raises(DependencyMissing, match="'rubricrm' needs ms-swift"):
        register(RubricReward(ScriptedSource()))
