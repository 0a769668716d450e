"""Futures of rubrics."""

import threading
from concurrent.futures import CancelledError, wait
from pathlib import Path

import pytest
from rubricrm import RubricModel
from rubricrm.errors import ModelClosed, RequestInvalid

LONG = {"max_new_tokens": 1900, "constrain": False, "stop_on_repetition": False}


def test_a_future_has_the_result_of_generate(packed_bundle: Path) -> None:
    with RubricModel.open(packed_bundle, threads=1) as model:
        futures = [model.submit(f"Write about {n}.", max_new_tokens=12) for n in range(10)]
        done, running = wait(futures, timeout=60)
        assert (len(done), len(running)) == (10, 0)
        for n, future in enumerate(futures):
            assert future.result().text == model.generate(f"Write about {n}.", max_new_tokens=12).text


def test_wrong_requests_are_told_at_once(tiny_model: RubricModel) -> None:
    with pytest.raises(RequestInvalid):
        tiny_model.submit(" ")


def test_cancelling_ends_the_generation(tiny_model: RubricModel) -> None:
    future = tiny_model.submit("Write.", **LONG)  # type: ignore[arg-type]
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result()
    assert all(sequence.is_finished for sequence in tiny_model._backend.engine._sequences())


def test_a_result_that_is_there_cannot_be_cancelled(tiny_model: RubricModel) -> None:
    future = tiny_model.submit("Write.", max_new_tokens=2)
    result = future.result(60)
    assert not future.cancel()
    assert future.result() == result


def test_a_failure_is_the_futures_exception(tiny_bundle: Path) -> None:
    model = RubricModel.open(tiny_bundle, threads=1)
    futures = [model.submit("Write.", **LONG) for _ in range(12)]  # type: ignore[arg-type]
    model.close()
    assert all(isinstance(future.exception(60), ModelClosed) for future in futures)


def test_a_callback_may_submit_the_next_request(tiny_model: RubricModel) -> None:
    finished = threading.Event()

    def go_on(count: int) -> None:
        if count == 5:
            finished.set()
        else:
            tiny_model.submit("Write.", max_new_tokens=2).add_done_callback(lambda _: go_on(count + 1))

    go_on(0)
    assert finished.wait(60)
