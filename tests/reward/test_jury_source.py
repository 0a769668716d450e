"""A jury of the SDK under a reward: opened once in a process, its failures told apart."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from judge_bundle import judge_bundle
from rubricrm.errors import OptionInvalid, RuntimeFailed, ServerUnreachable
from rubricrm.judge.judge_model import JudgeModel
from rubricrm.judge.verdict import Scored, Unscored
from rubricrm.model import RubricModel
from rubricrm.text_model import DEMO_BUNDLE
from rubricrm_reward import JurySource, RewardSample, RewardUnavailable, RubricReward, jury_source
from scripted_judge import RUBRIC, Answer, Asked, ScriptedJudge, ScriptedRubrics, rubric_result


def longest_wins(call: Asked) -> Answer:
    """What a judge writes that prefers the longer answer."""
    answers = call.response_a, call.response_b
    if any("crash" in answer for answer in answers):
        return RuntimeFailed("out of memory")
    if any("unsure" in answer for answer in answers):
        return "I cannot say."
    return f"Winner: Response {'A' if len(answers[0]) > len(answers[1]) else 'B'}"


class Opened:
    """The models that every place opens, and what they were opened with."""

    def __init__(self) -> None:
        self.judge = ScriptedJudge(longest_wins)
        self.rubrics = ScriptedRubrics(rubric_result)
        self.places: list[tuple[str, dict[str, object]]] = []

    def open_judge(self, place: str, **settings: object) -> ScriptedJudge:
        self.places.append((place, settings))
        return self.judge

    def open_rubrics(self, place: str, **settings: object) -> ScriptedRubrics:
        self.places.append((place, settings))
        return self.rubrics


@pytest.fixture(autouse=True)
def no_jury_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jury_source, "_juries", {})


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Scripted models in place of those of bundles and servers."""
    opened = Opened()
    for way in ("open", "connect"):
        monkeypatch.setattr(JudgeModel, way, opened.open_judge)
        monkeypatch.setattr(RubricModel, way, opened.open_rubrics)
    return opened


def score(source: JurySource, *samples: RewardSample, **options: Any) -> list[Scored | Unscored]:
    return asyncio.run(RubricReward(source, **options).score(samples))


def test_the_reward_is_that_of_the_jury(models: Opened) -> None:
    texts = ("A long answer.", "Short", "Unsure: unsure")
    samples = [RewardSample("Name a color.", text, "A reference", RUBRIC) for text in texts]
    outcomes = score(JurySource("bundle", votes=2), *samples, max_unscored=0.5)
    found = [outcome.value if isinstance(outcome, Scored) else str(outcome.reason) for outcome in outcomes]
    assert found == [1.0, 0.0, "no_quorum"]
    assert len(models.judge.asked) == 12  # two votes in each of two orders


@pytest.mark.usefixtures("models")
def test_a_failing_judge_is_unscored() -> None:
    samples = [RewardSample("Name a color.", text, "A reference", RUBRIC) for text in ("A long answer.", "crash")]
    first, second = score(JurySource("bundle"), *samples)
    assert isinstance(first, Scored)
    assert isinstance(second, Unscored)
    assert "RUNTIME_FAILED: out of memory" in second.detail


def test_a_rubric_is_made_once_for_all_loops_and_samples(models: Opened) -> None:
    source = JurySource("bundle", rubrics="other")
    samples = [RewardSample("Name a color.", f"Answer {index}", "Ref") for index in range(8)]
    for _ in range(2):
        assert all(isinstance(outcome, Scored) for outcome in score(source, *samples))
    assert models.rubrics.asked == ["Name a color."]
    assert models.places == [("bundle", {}), ("other", {})]
    assert {call.rubric.strip() for call in models.judge.asked} == {RUBRIC}


@pytest.mark.usefixtures("models")
def test_a_jury_without_rubrics_says_so_and_is_no_outage() -> None:
    with pytest.raises(OptionInvalid, match="no model that makes one"):
        score(JurySource("bundle"), RewardSample("Name a color.", "Red", "Blue"), max_unscored=1.0)


def test_a_server_gets_its_prompt_its_name_and_its_key(models: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    source = JurySource("http://judge:8000", "prompts", "judge-4b", "JUDGE_KEY")
    sample = RewardSample("Name a color.", "Red", "Blue", RUBRIC)
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(OptionInvalid, match="judge_key_variable names 'JUDGE_KEY', which is not set"):
        score(source, sample)
    monkeypatch.setenv("JUDGE_KEY", "secret")
    score(source, sample)
    connected = {"prompt": "prompts", "model": "judge-4b", "api_key": "secret"}
    assert models.places == [("http://judge:8000", connected)]
    assert "secret" not in repr(source)


@pytest.mark.usefixtures("models")
def test_several_votes_need_a_temperature() -> None:
    sample = RewardSample("Name a color.", "Red", "Blue", RUBRIC)
    assert len(score(JurySource("bundle", temperature=0.0), sample)) == 1
    with pytest.raises(OptionInvalid, match="votes is 3 at temperature 0"):
        score(JurySource("bundle", votes=3, temperature=0.0), sample)


def test_a_judge_that_names_no_winner_is_an_outage(tmp_path: Path) -> None:
    # The model of the demo bundle writes a rubric, whatever it is asked.
    source = JurySource(str(judge_bundle(tmp_path / "judge")))
    with pytest.raises(RewardUnavailable, match=r"1 of 1 samples could not be judged \(1 no_quorum\)"):
        score(source, RewardSample("Name a color.", "Red.", "Blue.", RUBRIC))


def test_a_server_that_is_down_is_an_error(tmp_path: Path) -> None:
    judge = str(judge_bundle(tmp_path / "judge"))
    source = JurySource(judge, rubrics="http://127.0.0.1:9", rubrics_prompt=str(DEMO_BUNDLE))
    with pytest.raises(ServerUnreachable):
        score(source, RewardSample("Name a color.", "Red.", "Blue."), max_unscored=1.0)
