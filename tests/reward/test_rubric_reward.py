"""The reward: a number or the reason for none, for every sample, in order; and an outage is an error."""

import asyncio
import multiprocessing
import pickle
import threading
from collections.abc import Coroutine
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.errors import OptionInvalid, OptionUnknown
from rubricrm.judge.verdict import Scored, Unscored
from rubricrm_reward import JurySource, RewardSample, RewardUnavailable, RubricReward
from scripted_jury import FAILURES, VALUES, JudgeBroken, ScriptedJury, ScriptedSource

Value = TypeVar("Value")


def run(work: Coroutine[Any, Any, Value]) -> Value:
    return asyncio.run(asyncio.wait_for(work, 30))


def samples(*words: str) -> list[RewardSample]:
    return [RewardSample("Name a color.", f"answer {index} {word}", "Blue.") for index, word in enumerate(words)]


def values(outcomes: list[Scored | Unscored]) -> list[float | str]:
    return [outcome.value if isinstance(outcome, Scored) else str(outcome.reason) for outcome in outcomes]


def test_each_outcome_has_its_place() -> None:
    reward = RubricReward(ScriptedSource(), max_unscored=0.5, timeout_s=1)
    outcomes = run(reward.score(samples("better", "mute", "equal", "slow", "worse", "broken")))
    assert values(outcomes) == [1.0, "no_quorum", 0.5, "judge_failed", 0.0, "judge_failed"]
    details = [outcome.detail for outcome in outcomes if isinstance(outcome, Unscored)]
    assert details[1:] == ["not judged within 1 s", "JUDGE_BROKEN: the judge failed"]


@given(st.lists(st.sampled_from([*VALUES, *FAILURES]), max_size=40), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_every_sample_has_a_number_or_a_reason_in_order(words: list[str], max_unscored: float) -> None:
    source = ScriptedSource()
    reward = RubricReward(source, max_unscored=max_unscored, max_concurrency=7)
    num_failures = sum(word in FAILURES for word in words)
    if num_failures > max(max_unscored * len(words), 1 if max_unscored and len(words) > 1 else 0):
        with pytest.raises(RewardUnavailable):
            run(reward.score(samples(*words)))
        return
    outcomes = run(reward.score(samples(*words)))
    assert len(outcomes) == len(words)
    for word, outcome in zip(words, outcomes, strict=True):
        if word in VALUES:
            assert isinstance(outcome, Scored)
            assert outcome.value == VALUES[word]
        else:
            assert isinstance(outcome, Unscored)
            assert not hasattr(outcome, "value")


def test_a_dead_judge_stops_the_batch_early(opened: list[ScriptedJury]) -> None:
    reward = RubricReward(ScriptedSource(dies_after=0), max_concurrency=4)
    with pytest.raises(RewardUnavailable, match=r"201 of 1000 samples .* \(201 judge_failed\), expected at most 200"):
        run(reward.score(samples(*["better"] * 1000)))
    (jury,) = opened
    assert 201 <= len(jury.calls) <= 220
    assert jury.running == 0


def test_a_judge_that_dies_in_mid_run_is_an_outage_from_then_on() -> None:
    async def epochs(reward: RubricReward) -> list[list[float | str]]:
        found = [values(await reward.score(samples("better", "worse"))) for _ in range(3)]
        with pytest.raises(RewardUnavailable):
            await reward.score(samples("better", "worse"))
        return found

    assert run(epochs(RubricReward(ScriptedSource(dies_after=6)))) == [[1.0, 0.0]] * 3


def test_a_slow_judge_costs_one_timeout_and_not_one_for_each_sample(opened: list[ScriptedJury]) -> None:
    reward = RubricReward(ScriptedSource(), timeout_s=0.05, max_concurrency=50)
    with pytest.raises(RewardUnavailable, match="not judged within 0.05 s"):
        run(reward.score(samples(*["slow"] * 200)))
    assert len(opened[0].calls) <= 100


def test_the_deadline_counts_from_the_start_of_a_sample() -> None:
    # One at a time: the last ones wait far longer than the deadline for their turn, and are judged.
    reward = RubricReward(ScriptedSource(), timeout_s=1, max_concurrency=1, max_unscored=0.5)
    outcomes = run(reward.score(samples("slow", "slow", "better", "worse")))
    assert values(outcomes) == ["judge_failed", "judge_failed", 1.0, 0.0]


def test_concurrency_is_bounded_over_all_calls(opened: list[ScriptedJury]) -> None:
    async def calls(reward: RubricReward) -> None:
        await asyncio.gather(*(reward.score(samples(*["better"] * 20)) for _ in range(10)))

    run(calls(RubricReward(ScriptedSource(), max_concurrency=5)))
    (jury,) = opened
    assert len(jury.calls) == 200
    assert jury.most_running == 5


def test_on_failure_raise_allows_no_unscored_sample() -> None:
    reward = RubricReward(ScriptedSource(), on_failure="raise")
    with pytest.raises(RewardUnavailable, match="1 of 50"):
        run(reward.score(samples(*["better"] * 49, "mute")))
    with pytest.raises(RewardUnavailable, match="1 of 1"):
        run(reward.score_one(samples("broken")[0]))


def test_one_sample_at_a_time_may_be_unscored_but_has_no_value() -> None:
    reward = RubricReward(ScriptedSource())
    assert isinstance(run(reward.score_one(samples("mute")[0])), Unscored)
    assert run(reward.value(samples("equal")[0])).value == 0.5
    with pytest.raises(RewardUnavailable, match="no vote in the given order"):
        run(reward.value(samples("mute")[0]))


def test_an_error_that_nobody_foresaw_is_no_outage(opened: list[ScriptedJury]) -> None:
    with pytest.raises(ZeroDivisionError):
        run(RubricReward(ScriptedSource(), max_unscored=1.0).score(samples("better", "bug", "slow")))
    assert opened[0].running == 0


def test_a_cancelled_batch_leaves_nothing_running(opened: list[ScriptedJury]) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(RubricReward(ScriptedSource()).score(samples("slow", "slow")))
        while not opened or opened[0].running < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert opened[0].running == 0

    run(cancelled())


def test_a_jury_that_cannot_be_opened_is_an_error_and_tried_again() -> None:
    reward = RubricReward(ScriptedSource(opens=False), max_unscored=1.0)
    for _ in range(2):
        with pytest.raises(JudgeBroken, match="cannot be opened"):
            run(reward.score(samples("better")))


def test_each_event_loop_opens_one_jury(opened: list[ScriptedJury]) -> None:
    reward = RubricReward(ScriptedSource())
    both_run = threading.Barrier(2)

    async def use() -> list[list[float | str]]:
        both_run.wait(20)
        batches = await asyncio.gather(*(reward.score(samples("better", "worse")) for _ in range(5)))
        return [values(batch) for batch in batches]

    results: list[list[list[float | str]]] = []
    threads = [threading.Thread(target=lambda: results.append(run(use()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[[1.0, 0.0]] * 5] * 2
    assert len(opened) == 2


def test_loops_that_have_ended_are_forgotten() -> None:
    reward = RubricReward(ScriptedSource())
    for _ in range(20):
        run(reward.score(samples("better")))
    assert len(reward._loops) == 1


def score_in_this_process(pickled: bytes) -> list[float | str]:
    return values(run(pickle.loads(pickled).score(samples("better", "equal"))))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_reward_goes_to_other_processes(method: str, opened: list[ScriptedJury]) -> None:
    reward = RubricReward(ScriptedSource(), timeout_s=7)
    run(reward.score(samples("better")))  # what it has opened here stays here
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(score_in_this_process, pickle.dumps(reward)).result(60) == [1.0, 0.5]
    assert len(opened) == 1
    assert pickle.loads(pickle.dumps(reward))._timeout_s == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_failure", "zero"),
        ("max_unscored", 1.1),
        ("max_unscored", -0.1),
        ("max_unscored", True),
        ("max_unscored", float("nan")),
        ("timeout_s", 0),
        ("timeout_s", float("inf")),
        ("timeout_s", "60"),
        ("max_concurrency", 0),
        ("max_concurrency", 1.0),
    ],
)
def test_options_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(OptionInvalid, match=name):
        RubricReward(ScriptedSource(), **{name: value})  # type: ignore[arg-type]


def test_settings_are_those_of_source_and_reward() -> None:
    reward = RubricReward.from_settings({"judge": "bundle", "votes": 3, "timeout_s": 9, "on_failure": "raise"})
    assert reward._source == JurySource("bundle", votes=3)
    assert reward._timeout_s == 9
    with pytest.raises(OptionUnknown, match="no setting 'timeout', expected one of .*timeout_s"):
        RubricReward.from_settings({"judge": "bundle", "timeout": 9})
    with pytest.raises(OptionInvalid, match="judge is missing"):
        RubricReward.from_settings({"votes": 3})


def test_a_source_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(OptionInvalid, match="judge_prompt"):
        JurySource("http://judge:8000")
    with pytest.raises(OptionInvalid, match="only a server"):
        JurySource("bundle", judge_prompt="directory")
    with pytest.raises(OptionInvalid, match="rubrics_model: only a server takes these, and rubrics is None"):
        JurySource("bundle", rubrics_model="name")
    with pytest.raises(OptionInvalid, match=r"votes must be a text or a number, got \[1\]"):
        JurySource(Path("bundle"), votes=[1])  # type: ignore[arg-type]
