"""A generation's own state: its first end stands, whoever waits hears of it, and time runs on the wall."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rubricrm.errors import ModelClosed, RuntimeFailed
from rubricrm.generation.completion import Completion
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sampling import TokenLogprobs
from rubricrm.generation.sequence import Sequence, State
from rubricrm.runtime.tokenizer import Tokenizer

PROMPT = list(range(20, 30))
WAIT = 30


def make(max_new_tokens: int = 5, *, cancel: threading.Event | None = None, **options: Any) -> Sequence:
    return Sequence(PROMPT, GenerationOptions(**options), max_new_tokens, cancel=cancel)


def push(sequence: Sequence, *token_ids: int) -> None:
    for token_id in token_ids:
        sequence.push(token_id, None)


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


# ---- states ----


def test_a_sequence_goes_from_waiting_to_its_end() -> None:
    sequence = make(2)
    states = [sequence.state]
    sequence.admit(7)
    states.append(sequence.state)
    sequence.begin_decoding()
    states.append(sequence.state)
    push(sequence, 75)
    assert not sequence.is_finished
    push(sequence, 76)
    assert [*states, sequence.state] == list(State)
    assert (sequence.cached_tokens, sequence.token_ids, sequence.finish_reason) == (7, [75, 76], "length")
    times = [sequence.started, sequence.admitted, sequence.prefilled, sequence.first_token, sequence.ended]
    assert None not in times
    assert times == sorted(times)  # type: ignore[type-var]


@pytest.mark.parametrize("first", ["length", "stop", "cancelled", "timeout", "repetition"])
def test_the_first_end_stands(first: str) -> None:
    sequence = make()
    sequence.finish(first)
    ended = sequence.ended
    for other in ("cancelled", "stop", "timeout"):
        sequence.finish(other)
    sequence.fail(RuntimeFailed("out of order"))
    assert (sequence.finish_reason, sequence.error, sequence.ended) == (first, None, ended)
    sequence.raise_error()


def test_a_failure_stands_too() -> None:
    sequence = make()
    sequence.fail(RuntimeFailed("first"))
    sequence.finish("stop")
    sequence.fail(ModelClosed("second"))
    assert sequence.finish_reason is None
    with pytest.raises(RuntimeFailed, match="first"):
        sequence.raise_error()


def test_each_reader_gets_an_error_of_its_own() -> None:
    """A traceback grows with each raise: one error for all threads would never be freed."""
    sequence = make()
    sequence.fail(RuntimeFailed("out of order"))
    errors = []
    for _ in range(2):
        with pytest.raises(RuntimeFailed, match="out of order") as caught:
            sequence.raise_error()
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert errors[0].__cause__ is errors[1].__cause__ is sequence.error


def test_an_ended_sequence_takes_nothing_more() -> None:
    sequence = make()
    sequence.admit(0)
    sequence.begin_decoding()
    push(sequence, 75)
    sequence.finish("cancelled")
    push(sequence, 76)
    sequence.admit(3)
    sequence.begin_decoding()
    assert (sequence.token_ids, sequence.cached_tokens, sequence.state) == ([75], 0, State.FINISHED)


def test_log_probabilities_are_kept_token_by_token() -> None:
    sequence = make()
    entries = [TokenLogprobs(75, -0.5, ()), TokenLogprobs(76, -0.25, ())]
    for entry in entries:
        sequence.push(entry.token_id, entry)
    assert sequence.logprobs == entries


def test_a_seed_is_drawn_only_where_none_was_given() -> None:
    assert make(seed=12).seed == 12
    seeds = {make().seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**64 for seed in seeds)


# ---- text ----


@pytest.fixture
def write(tiny_bundle: Path) -> Callable[..., Sequence]:
    """Return a function that makes a sequence with text."""
    tokenizer = Tokenizer.from_file(tiny_bundle / "tokenizer.json")

    def make_one(max_new_tokens: int = 50, **keywords: Any) -> Sequence:
        options = GenerationOptions(**keywords)
        return Sequence(PROMPT, options, max_new_tokens, completion=Completion(tokenizer, options))

    return make_one


def byte_ids(text: str) -> list[int]:
    return [5 + byte for byte in text.encode()]


def test_pieces_are_whole_characters(write: Callable[..., Sequence]) -> None:
    sequence = write()
    push(sequence, *byte_ids("aé🙂"))
    assert sequence.pieces == ["a", "é", "🙂"]
    assert len(sequence.token_ids) == 7


@pytest.mark.parametrize("reason", ["stop", "cancelled", "timeout", "length"])
def test_only_the_models_own_end_marks_half_a_character(write: Callable[..., Sequence], reason: str) -> None:
    sequence = write()
    push(sequence, *byte_ids("aé")[:-1])
    sequence.finish(reason)
    assert "".join(sequence.pieces) == ("a\ufffd" if reason == "stop" else "a")
    assert sequence.finish_reason == reason


@pytest.mark.parametrize("reason", ["cancelled", "timeout"])
def test_what_a_stop_string_held_back_comes_at_the_end(write: Callable[..., Sequence], reason: str) -> None:
    sequence = write(stop=["ENDS"])
    push(sequence, *byte_ids("one END"))
    assert "".join(sequence.pieces) == "one "
    sequence.finish(reason)
    assert "".join(sequence.pieces) == "one END"


def test_a_stop_string_counts_more_than_the_limit(write: Callable[..., Sequence]) -> None:
    sequence = write(7, stop=["END"])
    push(sequence, *byte_ids("one END"))
    assert ("".join(sequence.pieces), sequence.finish_reason) == ("one ", "stop")


# ---- time ----


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still but for what a test adds to `now`."""
    clock = SimpleNamespace(now=1000.0)
    patched = SimpleNamespace(perf_counter=lambda: clock.now)
    for module in ("generation", "sequence"):
        monkeypatch.setattr(f"rubricrm.generation.{module}.time", patched)
    return clock


def test_time_runs_on_the_wall_from_the_call(clock: SimpleNamespace) -> None:
    sequence = Sequence(PROMPT, GenerationOptions(timeout_s=15), 5, started=990)
    assert sequence.time_left() == 5
    assert not sequence.end_if_due()
    clock.now += 5
    assert sequence.time_left() == 0
    assert sequence.end_if_due()
    assert (sequence.finish_reason, sequence.ended) == ("timeout", 1005)


def test_without_a_timeout_there_is_always_time(clock: SimpleNamespace) -> None:
    sequence = make()
    clock.now += 1e9
    assert sequence.time_left() is None
    assert not sequence.end_if_due()


def test_a_timeout_keeps_what_there_is(clock: SimpleNamespace) -> None:
    sequence = make(timeout_s=10)
    push(sequence, 75)
    clock.now += 20
    assert sequence.end_if_due()
    assert (sequence.finish_reason, sequence.token_ids) == ("timeout", [75])


def test_the_event_ends_it_and_counts_more_than_the_time(clock: SimpleNamespace) -> None:
    cancel = threading.Event()
    sequence = make(cancel=cancel, timeout_s=10)
    assert not sequence.end_if_due()
    cancel.set()
    clock.now += 20
    assert sequence.end_if_due()
    assert sequence.finish_reason == "cancelled"


def test_waiting_ends_with_the_time_though_nobody_computes() -> None:
    sequence = make(timeout_s=0.01)
    sequence.wait()
    assert sequence.finish_reason == "timeout"


# ---- waiting ----


def test_a_waiter_wakes_for_each_token_and_for_the_end() -> None:
    sequence = make(2)
    seen: list[int] = []

    def read() -> None:
        for count in range(3):
            sequence.wait(lambda count=count: len(sequence.token_ids) > count)
            seen.append(len(sequence.token_ids))

    thread = in_thread(read)
    push(sequence, 75, 76)
    thread.join(WAIT)
    assert not thread.is_alive()
    assert seen[-1] == 2
    assert seen[0] in (1, 2)


@pytest.mark.parametrize("end", ["finish", "fail"])
def test_any_end_wakes_all_that_wait(end: str) -> None:
    sequence = make()
    threads = [in_thread(sequence.wait) for _ in range(5)]
    sequence.finish("cancelled") if end == "finish" else sequence.fail(RuntimeFailed("out of order"))
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


def test_waiting_for_what_is_there_returns_at_once_and_ends_nothing() -> None:
    sequence = make(timeout_s=1e-9)
    sequence.wait(lambda: True)
    assert not sequence.is_finished


# ---- listeners ----


def test_a_listener_hears_of_every_token_and_of_the_end() -> None:
    sequence = make(3)
    heard: list[tuple[int, bool]] = []
    sequence.listen(lambda: heard.append((len(sequence.token_ids), sequence.is_finished)))
    push(sequence, 75, 76, 77)
    assert heard == [(1, False), (2, False), (3, True)]


def test_a_listener_that_comes_too_late_hears_of_the_end() -> None:
    sequence = make()
    sequence.finish("cancelled")
    heard: list[bool] = []
    sequence.listen(lambda: heard.append(sequence.is_finished))
    assert heard == [True]


@pytest.mark.parametrize("change", ["push", "finish", "fail"])
def test_no_lock_is_held_while_a_listener_runs(change: str) -> None:
    """Another thread may use the sequence meanwhile: close an engine, say, that waits for its own thread."""
    sequence = make()
    was_free: list[bool] = []

    def use_elsewhere() -> None:
        thread = in_thread(lambda: sequence.finish("cancelled"))
        thread.join(WAIT)
        was_free.append(not thread.is_alive())

    sequence.listen(use_elsewhere)
    {
        "push": lambda: push(sequence, 75),
        "finish": lambda: sequence.finish("stop"),
        "fail": lambda: sequence.fail(RuntimeFailed("out of order")),
    }[change]()
    assert was_free
    assert all(was_free)


def test_a_listener_that_raises_is_logged_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    sequence = make()
    heard: list[int] = []
    sequence.listen(lambda: 1 / 0)
    sequence.listen(lambda: heard.append(len(sequence.token_ids)))
    with caplog.at_level(logging.ERROR, "rubricrm"):
        push(sequence, 75)
        sequence.finish("cancelled")
        sequence.listen(lambda: 1 / 0)
    assert heard == [1, 1]
    assert [record.message for record in caplog.records] == ["a listener of a generation failed"] * 3


# ---- forks ----


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("locked", [False, True], ids=["free", "locked-elsewhere"])
def test_in_a_fork_a_sequence_that_ran_has_failed(locked: bool) -> None:
    """Also where a thread that does not exist in the fork held its lock."""
    running, ended, told = make(), make(), []
    ended.finish("stop")
    running.listen(lambda: told.append(True))
    has_lock, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with running._lock:
            has_lock.set()
            may_go.wait(WAIT)

    if locked:
        in_thread(hold)
        assert has_lock.wait(WAIT)
    child = os.fork()
    if child == 0:
        running.wait()
        running.finish("cancelled")
        is_right = isinstance(running.error, ModelClosed) and ended.finish_reason == "stop" and not told
        os._exit(0 if is_right else 1)
    may_go.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not running.is_finished
