"""A jury of the SDK under a reward: opened once in a process, its failures told apart."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from rubricrm.errors import OptionInvalid, RuntimeFailed
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.result import RubricResult, Timings, Usage
from rubricrm.judge.judge_model import JudgeModel
from rubricrm.judge.judgment import parse_judgment
from rubricrm.judge.judgment_result import JudgmentResult
from rubricrm.judge.verdict import Scored, Unscored
from rubricrm.model import RubricModel
from rubricrm.rubric.rubric import parse
from rubricrm_reward import JurySource, RubricReward, Sample, jury_source

RUBRIC = "1. The response is short. [Hard Rule]\n"


class LongestWins:
    """A judge that prefers the longer answer, in the text that the family's judges write."""

    default_options = GenerationOptions(temperature=0.7)
    description: Mapping[str, Any] = {"manifest_sha256": "0"}

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, GenerationOptions | None]] = []
        self.requests: list[str] = []

    def submit(self, *texts: str, options: GenerationOptions | None = None) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(self._judgment(*texts, options=options) if len(texts) == 4 else self._rubric(*texts))
        return future

    def _judgment(self, request: str, rubric: str, a: str, b: str, options: GenerationOptions | None) -> JudgmentResult:
        self.asked.append((request, rubric, options))
        if "crash" in a + b:
            raise RuntimeFailed("out of memory")
        text = "I cannot say." if "unsure" in a + b else f"Winner: Response {'A' if len(a) > len(b) else 'B'}"
        parts = Usage(*[0] * len(Usage.__dataclass_fields__)), SimpleNamespace(spec=Timings)
        return JudgmentResult(parse_judgment(text, truncated=False), "stop", *parts, 0, {})  # type: ignore[arg-type]

    def _rubric(self, request: str) -> RubricResult:
        self.requests.append(request)
        result: Any = SimpleNamespace(request=request, finish_reason="stop", rubric=parse(RUBRIC))
        return result


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> LongestWins:
    """The judge that each place opens; it makes the rubrics too."""
    model = LongestWins()
    model.places = []  # type: ignore[attr-defined]

    def opened(place: str, **settings: object) -> LongestWins:
        model.places.append((place, settings))  # type: ignore[attr-defined]
        return model

    monkeypatch.setattr(jury_source, "_juries", {})
    for kind in (JudgeModel, RubricModel):
        monkeypatch.setattr(kind, "open", opened)
        monkeypatch.setattr(kind, "connect", opened, raising=False)
    return model


def score(source: JurySource, *samples: Sample, **options: Any) -> list[Scored | Unscored]:
    return asyncio.run(RubricReward(source, **options).score(samples))


def test_the_reward_is_that_of_the_jury(judge: LongestWins) -> None:
    texts = ("A long answer.", "Short", "Unsure: unsure")
    samples = [Sample("Name a color.", text, "A reference", RUBRIC) for text in texts]
    outcomes = score(JurySource("bundle", votes=2), *samples, max_unscored=0.5)
    found = [outcome.value if isinstance(outcome, Scored) else str(outcome.reason) for outcome in outcomes]
    assert found == [1.0, 0.0, "no_quorum"]
    assert len(judge.asked) == 12  # two votes in each of two orders
    assert {options.temperature for _, _, options in judge.asked if options} == {0.7}


@pytest.mark.usefixtures("judge")
def test_a_failing_judge_is_unscored() -> None:
    samples = [Sample("Name a color.", text, "A reference", RUBRIC) for text in ("A long answer.", "crash")]
    first, second = score(JurySource("bundle"), *samples)
    assert isinstance(first, Scored)
    assert isinstance(second, Unscored)
    assert "RUNTIME_FAILED: out of memory" in second.detail


def test_a_rubric_is_made_once_for_all_loops_and_samples(judge: LongestWins) -> None:
    source = JurySource("bundle", rubrics="other")
    samples = [Sample("Name a color.", f"Answer {index}", "Ref") for index in range(8)]
    for _ in range(2):
        assert all(isinstance(outcome, Scored) for outcome in score(source, *samples))
    assert judge.requests == ["Name a color."]
    assert judge.places == [("bundle", {}), ("other", {})]  # type: ignore[attr-defined]
    assert {rubric for _, rubric, _ in judge.asked} == {RUBRIC}


@pytest.mark.usefixtures("judge")
def test_a_jury_without_rubrics_says_so_and_is_no_outage() -> None:
    with pytest.raises(OptionInvalid, match="no model that makes one"):
        score(JurySource("bundle"), Sample("Name a color.", "Red", "Blue"), max_unscored=1.0)


def test_a_server_gets_its_prompt_its_name_and_its_key(judge: LongestWins, monkeypatch: pytest.MonkeyPatch) -> None:
    source = JurySource("http://judge:8000", "prompts", "judge-4b", "JUDGE_KEY")
    sample = Sample("Name a color.", "Red", "Blue", RUBRIC)
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(OptionInvalid, match="judge_key_variable names 'JUDGE_KEY', which is not set"):
        score(source, sample)
    monkeypatch.setenv("JUDGE_KEY", "secret")
    score(source, sample)
    connected = {"prompt": "prompts", "model": "judge-4b", "api_key": "secret"}
    assert judge.places == [("http://judge:8000", connected)]  # type: ignore[attr-defined]
    assert "secret" not in repr(source)


def test_a_temperature_goes_to_the_judge(judge: LongestWins) -> None:
    score(JurySource("bundle", temperature=0.0), Sample("Name a color.", "Red", "Blue", RUBRIC))
    assert {options.temperature for _, _, options in judge.asked if options} == {0.0}
    with pytest.raises(OptionInvalid, match="votes is 3 at temperature 0"):
        score(JurySource("bundle", votes=3, temperature=0.0), Sample("Name a color.", "Red", "Blue", RUBRIC))
