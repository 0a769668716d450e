"""Every row has an answer or an error, and an outage is no row's error."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.errors import ModelClosed, OutputInvalid, RubricrmError, ServerRefused, ServerUnreachable
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.result import RubricResult
from rubricrm_batch.answering import RowAnswerer, seed_of
from rubricrm_batch.errors import JobStopped
from rubricrm_batch.patience import Patience
from scripted_model import ScriptedModel

ROWS = {f"r{number}": f"request {number}" for number in range(10)}


def answerer(fault: Callable[[str], RubricrmError | None] = lambda _: None) -> tuple[RowAnswerer, ScriptedModel, list]:
    model, pauses = ScriptedModel(fault), []
    options = GenerationOptions(seed=5)
    return RowAnswerer(model, options, Patience(4, 1.0), pauses.append), model, pauses  # type: ignore[arg-type]


def test_every_row_is_answered_with_the_seed_of_its_id() -> None:
    answers = answerer()[0].answer(ROWS)
    assert answers.keys() == ROWS.keys()
    for row, answer in answers.items():
        assert isinstance(answer, RubricResult)
        assert (answer.request, answer.seed) == (ROWS[row], seed_of(row, 5))


def test_seeds_follow_from_id_and_base_alone() -> None:
    assert seed_of("r1", 0) == 4496333158754657214  # written rows keep theirs
    assert len({seed_of(f"r{number}", base) for number in range(100) for base in (0, 1)}) == 200


@given(st.text(), st.integers(0, 2**64 - 1))
def test_a_seed_is_one_that_parquet_and_the_options_hold(row: str, base: int) -> None:
    assert 0 <= seed_of(row, base) < 2**63


def test_an_error_of_a_row_is_its_own() -> None:
    todo, model, _ = answerer(lambda request: OutputInvalid("NaN") if request == "request 3" else None)
    answers = todo.answer(ROWS)
    assert [row for row, answer in answers.items() if isinstance(answer, RubricrmError)] == ["r3"]
    assert model.asked.count("request 3") == 1  # it would fail again


def away(times: int) -> Callable[[str], RubricrmError | None]:
    """A server that cannot be reached for so many requests."""
    left: Iterator[int] = iter(range(times))
    return lambda _: ServerUnreachable("nobody is there") if next(left, None) is not None else None


def test_an_outage_that_ends_costs_no_row() -> None:
    todo, model, pauses = answerer(away(12))  # all ten, and two questions whether it is back
    answers = todo.answer(ROWS)
    assert all(isinstance(answer, RubricResult) for answer in answers.values())
    assert pauses == [1, 2, 4]
    assert model.asked[10:13] == ["probe"] * 3


def test_an_outage_that_does_not_end_stops_the_job() -> None:
    todo, _, pauses = answerer(lambda _: ServerUnreachable("nobody is there"))
    with pytest.raises(JobStopped, match=r"4 times in a row.*nobody is there.*the same command goes on"):
        todo.answer(ROWS)
    assert pauses == [1, 2, 4, 8]


def test_a_row_that_takes_the_server_down_gets_the_error() -> None:
    todo, model, _ = answerer(lambda request: ServerUnreachable("it died") if request == "request 3" else None)
    answers = todo.answer(ROWS)
    assert [row for row, answer in answers.items() if isinstance(answer, ServerUnreachable)] == ["r3"]
    assert model.asked.count("request 3") == 3


@pytest.mark.parametrize(
    "error",
    [ServerRefused("wrong key", status=401), ServerRefused("no such model", status=404), ModelClosed("closed")],
    ids=str,
)
def test_what_every_request_will_meet_stops_the_job_at_once(error: RubricrmError) -> None:
    todo, _, pauses = answerer(lambda request: error if request == "request 3" else None)
    with pytest.raises(JobStopped, match="no request can be answered"):
        todo.answer(ROWS)
    assert pauses == []


def test_a_refusal_of_one_request_is_its_own() -> None:
    todo = answerer(lambda request: ServerRefused("too long", status=400) if request == "request 3" else None)[0]
    assert isinstance(todo.answer(ROWS)["r3"], ServerRefused)


def test_pauses_double_up_to_half_a_minute() -> None:
    pauses: list[float] = []
    assert list(Patience(7, 1.0).tries(pauses.append)) == [1, 2, 3, 4, 5, 6, 7]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
