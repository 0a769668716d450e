"""Many requests through one model: every one has an outcome."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm import RubricModel
from rubricrm.errors import EngineBusy, ModelClosed, OptionInvalid, OptionUnknown, PromptTooLong, RequestInvalid
from rubricrm.generation.outcome import Outcome, in_order

REQUESTS = [f"Write about {n}." for n in range(12)]


def texts_of(model: RubricModel, requests: list[str]) -> list[str]:
    return [model.generate(request, max_new_tokens=12).text for request in requests]


@pytest.mark.parametrize("max_concurrency", [None, 1, 3, 100])
def test_every_request_has_one_outcome(packed_bundle: Path, max_concurrency: int | None) -> None:
    with RubricModel.open(packed_bundle, threads=1) as model:
        found = list(model.generate_many(REQUESTS, max_concurrency=max_concurrency, max_new_tokens=12))
        expected = texts_of(model, REQUESTS)
    assert sorted(outcome.index for outcome in found) == list(range(12))
    for outcome in found:
        assert outcome.error is None
        assert outcome.result is not None
        assert (outcome.request, outcome.result.text) == (REQUESTS[outcome.index], expected[outcome.index])


def test_wrong_requests_are_outcomes_among_the_others(tiny_model: RubricModel) -> None:
    requests = ["Write a haiku.", " ", "word " * 4000, "Name a color."]
    found = list(tiny_model.generate_many(requests, ordered=True, max_new_tokens=4))
    assert [outcome.index for outcome in found] == [0, 1, 2, 3]
    assert [type(outcome.error) for outcome in found] == [type(None), RequestInvalid, PromptTooLong, type(None)]
    assert [outcome.result is None for outcome in found] == [False, True, True, False]


def test_requests_are_taken_as_there_is_room(tiny_model: RubricModel) -> None:
    taken = 0

    def requests() -> Iterator[str]:
        nonlocal taken
        for request in REQUESTS:
            taken += 1
            yield request

    outcomes = tiny_model.generate_many(requests(), max_concurrency=2, max_new_tokens=4)
    assert taken == 0
    next(outcomes)
    assert taken <= 3
    outcomes.close()


def test_leaving_the_iteration_cancels_what_runs(tiny_bundle: Path) -> None:
    with RubricModel.open(tiny_bundle, threads=1) as model:
        outcomes = model.generate_many(REQUESTS, max_concurrency=4, max_new_tokens=1900, constrain=False)
        threading.Timer(0.2, model.close).start()
        ended = next(outcomes)
        outcomes.close()
        assert isinstance(ended.error, ModelClosed) or ended.result is not None
        assert all(sequence.is_finished for sequence in model._backend.engine._sequences())


def test_a_full_line_is_waited_for(tiny_bundle: Path) -> None:
    with RubricModel.open(tiny_bundle, threads=1, max_concurrency=1, max_waiting=1) as model:
        found = list(model.generate_many(REQUESTS, max_concurrency=6, max_new_tokens=4))
    assert [outcome.error for outcome in found] == [None] * 12


def test_a_line_that_others_fill_is_an_outcome(tiny_bundle: Path) -> None:
    with RubricModel.open(tiny_bundle, threads=1, max_concurrency=1, max_waiting=1) as model:
        others = [model.submit("Write.", max_new_tokens=1900, constrain=False)]
        while not any(sequence.admitted for sequence in model._backend.engine._sequences()):
            pass
        others.append(model.submit("Write.", max_new_tokens=1900, constrain=False))
        (outcome,) = model.generate_many(["Hi."], max_new_tokens=4)
        assert isinstance(outcome.error, EngineBusy)
        for other in others:
            other.cancel()


@pytest.mark.parametrize("max_concurrency", [0, -1, 1.5, "2"])
def test_a_concurrency_out_of_range_is_refused(tiny_model: RubricModel, max_concurrency: int) -> None:
    with pytest.raises(OptionInvalid, match="max_concurrency must be an integer from 1 on"):
        tiny_model.generate_many(REQUESTS, max_concurrency=max_concurrency)


def test_unknown_options_are_refused_at_once(tiny_model: RubricModel) -> None:
    with pytest.raises(OptionUnknown):
        tiny_model.generate_many(REQUESTS, max_tokens=4)  # type: ignore[call-arg]


@settings(max_examples=50)
@given(order=st.permutations(range(8)))
def test_outcomes_are_put_in_order(order: list[int]) -> None:
    def outcomes() -> Iterator[Outcome]:
        for index in order:
            yield Outcome(index, str(index), None)

    assert [outcome.index for outcome in in_order(outcomes())] == list(range(8))  # type: ignore[arg-type]
