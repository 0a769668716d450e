"""verl's function: the same keys always, and an error where there is no score."""

import asyncio
import inspect
from typing import Any

import pytest
from rubricrm.errors import OptionInvalid, OptionUnknown, RequestInvalid
from rubricrm_reward import RewardUnavailable, RubricReward, jury_source, verl
from rubricrm_reward.errors import RewardManagerRefused
from scripted_jury import ScriptedJury, ScriptedSource

INFO = {"request": "Name a color.", "reference": "Blue."}


@pytest.fixture(autouse=True)
def scripted_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every source open a scripted jury."""

    async def open_scripted(_: jury_source.JurySource) -> ScriptedJury:
        return await ScriptedSource().open()

    monkeypatch.setattr(jury_source.JurySource, "open", open_scripted)
    monkeypatch.setattr(verl, "_rewards", {})


def compute(word: str, ground_truth: object = "unused", extra_info: Any = INFO, **settings: Any) -> dict[str, float]:
    work = verl.compute_score(
        data_source="colors",
        solution_str=f"Red is {word}",
        ground_truth=ground_truth,
        extra_info=extra_info,
        **{"judge": "bundle"} | settings,
    )
    return asyncio.run(work)


def test_verl_takes_it_for_asynchronous() -> None:
    assert inspect.iscoroutinefunction(verl.compute_score)


@pytest.mark.parametrize(
    ("word", "score", "votes"), [("better", 1, (2, 0)), ("equal", 0.5, (1, 1)), ("worse", 0, (0, 2))]
)
def test_a_score_comes_with_its_votes(word: str, score: float, votes: tuple[int, int]) -> None:
    assert compute(word) == {"score": score, "votes_for": votes[0], "votes_against": votes[1], "no_vote": 0}


@pytest.mark.parametrize("word", ["mute", "broken", "slow"])
def test_a_sample_without_a_verdict_is_an_error(word: str) -> None:
    with pytest.raises(RewardUnavailable, match="1 of 1 samples"):
        compute(word, timeout_s=0.05)


def test_the_reference_is_in_the_extra_info_or_the_ground_truth(opened: list[ScriptedJury]) -> None:
    compute("better", ground_truth="Green.", extra_info={"request": "Name a color.", "rubric": "1. x"})
    compute("better", ground_truth={"answer": 3}, reward_router_address="host:1", reward_model_tokenizer=object())
    calls = [call for jury in opened for call in jury.calls]
    assert calls == [
        ("Name a color.", "Red is better", "Green.", "1. x"),
        ("Name a color.", "Red is better", "Blue.", None),
    ]


@pytest.mark.parametrize("extra_info", [None, {}, {"reference": "Blue."}])
def test_a_row_without_a_request_is_an_error(extra_info: Any) -> None:
    with pytest.raises(RequestInvalid, match="a row of colors: request: expected a text"):
        compute("better", extra_info=extra_info)


def test_an_unknown_setting_is_an_error() -> None:
    with pytest.raises(OptionUnknown, match="judge_url"):
        compute("better", judge_url="http://judge")


def test_one_reward_serves_all_samples_of_the_same_settings() -> None:
    first = verl._reward({"judge": "bundle", "timeout_s": 3})
    assert first is verl._reward({"timeout_s": 3, "judge": "bundle"})
    assert first is not verl._reward({"judge": "bundle"})
    assert isinstance(first, RubricReward)
    with pytest.raises(OptionInvalid, match="judge_prompt must be a text or a number"):
        compute("better", judge_prompt=["list"])


class RateLimitedRewardManager:
    """Calls a function as verl 0.9.1 does."""

    async def run_single(self, word: str, timeout: float) -> float:
        try:
            return (await asyncio.wait_for(self._compute_reward(word), timeout))["score"]
        except Exception:
            return 0.0

    async def _compute_reward(self, word: str) -> dict[str, float]:
        return await wrapped(word)


class NaiveRewardManager:
    """Calls a function as verl's manager of this name, in a trainer that has no patience."""

    async def run_single(self, word: str, timeout: float) -> float:
        try:
            return (await asyncio.wait_for(wrapped(word), timeout))["score"]
        except TimeoutError:
            return 0.0


async def wrapped(word: str) -> dict[str, float]:
    return await verl.compute_score("colors", word, "", INFO, judge="bundle")


def test_a_manager_that_makes_zero_of_errors_is_refused() -> None:
    with pytest.raises(RewardManagerRefused, match="reward_manager.name=naive"):
        asyncio.run(RateLimitedRewardManager().run_single("better", 20))


def test_a_timeout_of_verl_is_no_score() -> None:
    assert asyncio.run(NaiveRewardManager().run_single("better", 20)) == 1.0
    with pytest.raises(RewardUnavailable, match="stopped waiting"):
        asyncio.run(NaiveRewardManager().run_single("slow", 0.05))
