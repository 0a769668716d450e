"""Verdicts beside rubrics: a number only where there is a verdict, and an outage of the judge is no row's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rubricrm.errors import ServerUnreachable
from rubricrm.generation.options import GenerationOptions
from rubricrm.judge.verdict import Reason, Scored, Unscored, Verdict, Vote
from rubricrm_batch import judging
from rubricrm_batch.columns import staged_schema, written_schema
from rubricrm_batch.errors import JobStopped
from rubricrm_batch.judging import JudgeSource, Judging, verdict_columns
from rubricrm_batch.patience import Patience
from rubricrm_batch.worker import answered_table
from scripted_model import ScriptedModel, result

VERDICT = Verdict((Vote("given", "A", 1), Vote("swapped", "A", 2)))
AWAY = Unscored(Reason.JUDGE_FAILED, "nobody is there", retryable=True)
NO_VOTE = Unscored(Reason.NO_QUORUM, "no line names a winner", retryable=False)
ROWS: dict[str, dict[str, Any]] = {f"r{number}": {"a": f"answer {number}", "b": "reference"} for number in range(4)}
ANSWERS = {row: result(f"request {row}") for row in ROWS}


class ScriptedJudge(ScriptedModel):
    def generate_text(self, *_: object, **__: object) -> None:
        self.generate("probe")


def source(*, is_reward: bool = True) -> JudgeSource:
    return JudgeSource(Path("judge"), ("a", "b"), is_reward, 1, None, 1)


@pytest.fixture
def judge_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Judging, ScriptedJudge]]:
    """Make the judging of a jury whose outcomes a test decides."""

    def make(outcome: Callable[[str], Any], *, is_away: Callable[[], bool] = lambda: False) -> Any:
        class ScriptedJury:
            def __init__(self, *_: object, **__: object) -> None:
                pass

            def reward(self, request: str, a: str, b: str, *, rubric: str) -> Any:
                assert (b, request in rubric) == ("reference", True)
                return outcome(a)

        model = ScriptedJudge(lambda _: ServerUnreachable("away") if is_away() else None)
        monkeypatch.setattr(judging, "Jury", ScriptedJury)
        monkeypatch.setattr(JudgeSource, "open", lambda _: model)
        return Judging(source(), GenerationOptions(seed=0), Patience(3, 0.0)), model

    return make


def test_each_row_with_a_rubric_is_judged(judge_with: Any) -> None:
    todo, _ = judge_with(lambda _: Scored(1.0, VERDICT))
    answers = ANSWERS | {"r1": ServerUnreachable("no rubric")}
    assert todo.judge(ROWS, answers) == {row: Scored(1.0, VERDICT) for row in ("r0", "r2", "r3")}


def test_an_outage_of_the_judge_is_waited_for(judge_with: Any) -> None:
    left = iter(range(6))
    todo, model = judge_with(lambda _: AWAY if next(left, None) is not None else Scored(0.5, VERDICT))
    assert {*map(type, todo.judge(ROWS, ANSWERS).values())} == {Scored}
    assert model.asked == ["probe"] * 2


def test_a_judge_that_stays_away_ends_the_job(judge_with: Any) -> None:
    todo, _ = judge_with(lambda _: AWAY, is_away=lambda: True)
    with pytest.raises(JobStopped, match="did not answer 3 times"):
        todo.judge(ROWS, ANSWERS)


def test_what_cannot_be_judged_is_unscored(judge_with: Any) -> None:
    todo, _ = judge_with(lambda _: NO_VOTE)
    rows = ROWS | {"r1": {"a": None, "b": "reference"}}
    cut = result("cut")
    object.__setattr__(cut, "finish_reason", "length")
    outcomes = todo.judge(rows, ANSWERS | {"r2": cut})
    assert [outcomes[row].reason for row in ROWS] == ["no_quorum", "input_invalid", "rubric_failed", "no_quorum"]


def test_no_number_stands_where_there_is_no_verdict() -> None:
    columns = pa.schema([("request", pa.string()), ("a", pa.string()), ("b", pa.string())])
    staged = staged_schema(columns)[0]
    rows = [
        {"id": row, "request": "x", **ROWS[row], "error_code": "", "error_message": "", "input_line": ""}
        for row in ("r0", "r1", "r2")
    ]
    schema = written_schema(staged, is_judged=True)
    outcomes = {"r0": Scored(1.0, VERDICT), "r1": AWAY, "r2": VERDICT}
    table = answered_table(pa.Table.from_pylist(rows, staged), ANSWERS, schema, outcomes)
    assert table.schema == schema
    scored, away, compared = table.to_pylist()
    assert (scored["reward"], scored["winner"], scored["consistent"], scored["error_code"]) == (1.0, "A", True, "")
    assert (away["reward"], away["winner"], away["votes_for_a"]) == (None, None, None)
    assert (away["error_code"], away["error_message"]) == ("UNSCORED", "judge_failed: nobody is there")
    assert away["retryable"]
    assert away["rubric"]  # which was written all the same
    assert (compared["reward"], compared["winner"]) == (None, "A")


def test_columns_of_no_verdict_are_empty() -> None:
    assert verdict_columns(NO_VOTE) == {}
