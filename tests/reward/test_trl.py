"""TRL's reward function: None for what could not be judged, and what it logs."""

import asyncio
import inspect
import pickle
from typing import Any

import pytest
from rubricrm.errors import OptionInvalid, RequestInvalid
from rubricrm_reward import RewardUnavailable, RubricReward
from rubricrm_reward.trl import TRLReward
from scripted_jury import ScriptedJury, ScriptedSource

PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a color."}]


def call(function: TRLReward, words: list[str], **columns: Any) -> list[float | None]:
    columns = {"reference": ["Blue."] * len(words)} | columns
    return asyncio.run(function(prompts=["Name a color."] * len(words), completions=words, **columns))


def test_a_completion_without_a_verdict_is_none() -> None:
    function = TRLReward(RubricReward(ScriptedSource(), max_unscored=0.5, timeout_s=1))
    assert call(function, ["better", "mute", "equal", "broken", "worse", "slow"]) == [1.0, None, 0.5, None, 0.0, None]


def test_trl_takes_it_for_asynchronous_and_knows_its_name() -> None:
    function = TRLReward(RubricReward(ScriptedSource()))
    assert inspect.iscoroutinefunction(function.__call__)  # as TRL looks: at __call__, not at the instance
    assert function.__name__ == "rubricrm"
    assert call(pickle.loads(pickle.dumps(function)), ["better"]) == [1.0]


def test_shares_and_verdicts_are_logged() -> None:
    metrics: dict[str, float] = {}
    columns: dict[str, list[str]] = {}
    function = TRLReward(RubricReward(ScriptedSource(), max_unscored=0.5))
    words = ["better", "mute", "equal", "worse"]
    call(function, words, log_metric=metrics.__setitem__, log_extra=columns.__setitem__, trainer_state=object())
    assert metrics == {"rubricrm/unscored": 0.25, "rubricrm/no_vote": 0.125}
    assert columns == {"rubricrm": ["the answer won", "unscored: no_quorum", "tie", "the reference won"]}


def test_above_the_share_the_step_fails() -> None:
    with pytest.raises(RewardUnavailable, match="2 of 4 samples"):
        call(TRLReward(RubricReward(ScriptedSource())), ["broken", "better", "broken", "better"])


def test_messages_and_columns_reach_the_judge(opened: list[ScriptedJury]) -> None:
    function = TRLReward(RubricReward(ScriptedSource()), reference="chosen", rubric="criteria")
    rewards = asyncio.run(
        function(
            prompts=[PROMPT, PROMPT],
            completions=[[{"role": "assistant", "content": "Red is better"}], [{"role": "assistant", "content": None}]],
            completion_ids=[[1], [2]],
            chosen=["Blue.", [{"role": "assistant", "content": [{"type": "text", "text": "Green."}]}]],
            criteria=["1. The response is short. [Hard Rule]", None],
        )
    )
    assert rewards == [1.0, 0.5]
    assert sorted(opened[0].calls, key=str) == [
        ("Name a color.", "(The response is empty.)", "Green.", None),
        ("Name a color.", "Red is better", "Blue.", "1. The response is short. [Hard Rule]"),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"reference": ["Blue.", None]}, "sample 1: reference: expected a text or a list of chat messages, got None"),
        ({"reference": ["Blue.", " "]}, "sample 1: reference is blank"),
        ({"reference": ["Blue.", []]}, "sample 1: reference: expected a message of the role assistant among 0"),
        ({"rubric": ["", "x"]}, "sample 0: rubric is blank"),
        ({"rubric": ["x", ["y"]]}, "sample 1: rubric: expected a text or None, got list"),
        ({"reference": ["Blue.", [{"role": "assistant", "content": [{"type": "image"}]}]]}, "Only texts are judged"),
    ],
)
def test_a_bad_row_of_the_data_set_is_an_error_and_no_outage(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestInvalid, match=message):
        call(TRLReward(RubricReward(ScriptedSource(), max_unscored=1.0)), ["better", "better"], **columns)


def test_a_missing_column_is_named() -> None:
    function = TRLReward(RubricReward(ScriptedSource()), reference="chosen")
    with pytest.raises(OptionInvalid, match=r"no column 'chosen', found \['reference'\]"):
        call(function, ["better"])
    with pytest.raises(OptionInvalid, match="column 'rubric': expected a list with an entry for each of 1 samples"):
        call(TRLReward(RubricReward(ScriptedSource())), ["better"], rubric=["one", "two"])
