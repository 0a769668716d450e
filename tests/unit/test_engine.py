"""The loop: why a sequence ends, what fails with it, and that nobody is left waiting."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rubricrm.errors import ModelClosed, OutputInvalid, PromptTooLong, RuntimeFailed
from rubricrm.generation import driver as driver_module
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sequence import Sequence, State
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prefix import Prefix, compute_prefix
from rubricrm.runtime.session import Session

Scripted = Callable[..., tuple[Engine, Any]]
Hold = Callable[[Any], Any]

PROMPT = list(range(20, 30))
OTHER = list(range(40, 50))
WORD = [75, 76, 77, 78]
END = 2
CONTEXT = 2048
WAIT = 30
any_session = pytest.mark.parametrize("takes_any_mix", [True, False], ids=["any-mix", "one-slot-a-run"])


@pytest.fixture(scope="module")
def session(tiny_bundle: Path) -> Iterator[Session]:
    session = Session(Bundle.open(tiny_bundle), threads=1)
    yield session
    session.close()


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path, session: Session) -> Engine:
    return Engine(session, Bundle.open(tiny_bundle).manifest, None)


def start(engine: Engine, prompt_ids: list[int] = PROMPT, **options: Any) -> Sequence:
    return engine.submit(prompt_ids, GenerationOptions(**options))


def ids_of(sequence: Sequence) -> list[int]:
    """The tokens of a sequence, once it has ended."""
    ended = threading.Event()
    sequence.listen(lambda: ended.set() if sequence.is_finished else None)
    assert ended.wait(60), "the sequence never ended"
    sequence.raise_error()
    return sequence.token_ids


def run(engine: Engine, prompt_ids: list[int] = PROMPT, **options: Any) -> list[int]:
    return ids_of(start(engine, prompt_ids, **options))


def finish(engine: Engine) -> None:
    """Do steps by hand until there is nothing left to do."""
    while engine.step():
        pass


def wait_for(sequence: Sequence, count: int) -> None:
    sequence.wait(lambda: len(sequence.token_ids) >= count)


# ---- why a generation ends ----


@any_session
@pytest.mark.parametrize("stop_id", [0, 2])
def test_any_stop_id_ends_a_generation_and_is_not_part_of_it(
    scripted: Scripted, stop_id: int, takes_any_mix: bool
) -> None:
    engine, _ = scripted([*WORD, stop_id], len(PROMPT), takes_any_mix=takes_any_mix)
    sequence = start(engine)
    assert ids_of(sequence) == WORD
    assert sequence.finish_reason == "stop"


def test_a_stop_id_at_once_ends_a_generation_without_tokens(scripted: Scripted) -> None:
    engine, session = scripted([END], len(PROMPT))
    sequence = start(engine)
    assert ids_of(sequence) == []
    assert (sequence.finish_reason, sequence.first_token) == ("stop", None)
    assert sequence.prefilled is not None
    assert session.runs == [len(PROMPT)]


@pytest.mark.parametrize("max_new_tokens", [1, 2, 4])
def test_the_limit_of_tokens_is_length_and_no_token_is_run_in_vain(scripted: Scripted, max_new_tokens: int) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    sequence = start(engine, max_new_tokens=max_new_tokens)
    assert ids_of(sequence) == WORD[:max_new_tokens]
    assert sequence.finish_reason == "length"
    assert session.runs == [len(PROMPT), *[1] * (max_new_tokens - 1)]


def test_the_bundle_says_how_many_tokens_are_the_default(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT), by_hand=True)
    assert start(engine).max_new_tokens == 1024


def test_it_starts_by_itself_and_needs_no_reader(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT))
    ended = threading.Event()
    start(engine, max_new_tokens=4).listen(ended.set)
    assert ended.wait(WAIT)


# ---- cancelling, and time, in every state ----


def expire(engine: Engine, sequence: Sequence) -> None:
    """Let the time of a sequence be up."""
    sequence.started -= 2000
    with engine._lock:
        engine._scheduler._deadlines.add(sequence)


def cancel(engine: Engine, sequence: Sequence, event: threading.Event, how: str) -> str:
    """End a sequence in one of the ways that others end it; return the reason that it must have."""
    if how == "event":
        event.set()
    elif how == "method":
        sequence.finish("cancelled")
    else:
        expire(engine, sequence)
    return "timeout" if how == "timeout" else "cancelled"


@pytest.mark.parametrize("how", ["event", "method", "timeout"])
@pytest.mark.parametrize("state", list(State)[:3], ids=lambda state: state.value)
@any_session
def test_a_sequence_ends_in_any_state(scripted: Scripted, how: str, state: State, takes_any_mix: bool) -> None:
    """It keeps what it has, is computed no more, and its slot serves the next."""
    prompt = [30] * 150
    engine, session = scripted(WORD, len(prompt), takes_any_mix=takes_any_mix, by_hand=True, max_concurrency=1)
    event = threading.Event()
    before = start(engine, OTHER, max_new_tokens=1)
    if state is not State.WAITING:
        before.finish("cancelled")
    sequence = engine.submit(prompt, GenerationOptions(timeout_s=1000), cancel=event)
    while sequence.state is not state:
        engine.step()
    num_steps, num_tokens = len(session.steps), len(sequence.token_ids)
    reason = cancel(engine, sequence, event, how)
    after = start(engine, prompt, max_new_tokens=4)
    finish(engine)
    assert (sequence.finish_reason, len(sequence.token_ids)) == (reason, num_tokens)
    assert after.token_ids == WORD
    of_others = sum(map(sum, session.steps[num_steps:]))
    assert of_others == len(prompt) - after.cached_tokens + 3 + (len(OTHER) if state is State.WAITING else 0)


@pytest.mark.parametrize("how", ["event", "method", "timeout"])
def test_what_a_step_brings_after_the_end_is_dropped(scripted: Scripted, hold: Hold, how: str) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    gate, event = hold(session), threading.Event()
    sequence = engine.submit(PROMPT, GenerationOptions(timeout_s=1000), cancel=event)
    gate.let()
    wait_for(sequence, 1)
    gate.wait()
    gate.wait()  # the second step has begun
    reason = cancel(engine, sequence, event, how)
    sequence.end_if_due()
    gate.open()
    assert run(engine, max_new_tokens=2) == WORD[:2]
    assert (sequence.finish_reason, sequence.token_ids) == (reason, WORD[:1])


def test_one_that_was_cancelled_before_it_came_runs_nothing(scripted: Scripted) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    event = threading.Event()
    event.set()
    sequence = engine.submit(PROMPT, GenerationOptions(), cancel=event)
    assert ids_of(sequence) == []
    assert (sequence.finish_reason, sequence.prefilled, session.runs) == ("cancelled", None, [])


def test_no_time_at_all_is_a_timeout_without_tokens(scripted: Scripted) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    sequence = start(engine, timeout_s=1e-9)
    assert ids_of(sequence) == []
    assert (sequence.finish_reason, session.runs) == ("timeout", [])


def test_time_counts_from_when_the_request_came_in(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT))
    sequence = engine.submit(PROMPT, GenerationOptions(timeout_s=50), started=time.perf_counter() - 100)
    assert ids_of(sequence) == []
    assert sequence.finish_reason == "timeout"


def test_one_that_waits_in_the_line_ends_in_time_though_nobody_waits_for_it(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT), by_hand=True, max_concurrency=1)
    start(engine)
    waiting = [start(engine, timeout_s=1000) for _ in range(3)]
    expire(engine, waiting[1])
    engine.step()
    assert [each.finish_reason for each in waiting] == [None, "timeout", None]


def test_what_ended_yields_nothing_more(scripted: Scripted) -> None:
    engine, session = scripted(WORD, len(PROMPT), by_hand=True)
    sequence = start(engine, max_new_tokens=2)
    finish(engine)
    assert not engine.step()
    assert (sequence.token_ids, len(session.steps)) == (WORD[:2], 2)


# ---- the context ----


@pytest.mark.parametrize("room", [1, 2, 5])
def test_new_tokens_are_limited_to_the_room_in_the_context(engine: Engine, room: int) -> None:
    prompt = [5 + n % 200 for n in range(CONTEXT - room)]
    sequence = start(engine, prompt, max_new_tokens=1024)
    assert sequence.max_new_tokens == room
    assert len(ids_of(sequence)) == room
    assert sequence.finish_reason == "length"


@pytest.mark.parametrize("excess", [0, 1, 500])
def test_a_prompt_without_room_for_a_token_is_refused(engine: Engine, excess: int) -> None:
    words = f"the prompt has {CONTEXT + excess} tokens, the context {CONTEXT}: .* by at least {excess + 1} tokens"
    with pytest.raises(PromptTooLong, match=words):
        start(engine, [5] * (CONTEXT + excess))


# ---- many ----


@any_session
def test_several_are_computed_in_one_step(scripted: Scripted, takes_any_mix: bool) -> None:
    engine, session = scripted(WORD, len(PROMPT), takes_any_mix=takes_any_mix, by_hand=True)
    sequences = [start(engine, max_new_tokens=4) for _ in range(3)]
    finish(engine)
    assert [each.token_ids for each in sequences] == [WORD] * 3
    assert session.steps == [[10] * 3, [1] * 3, [1] * 3, [1] * 3]
    assert session.slots == (9 if takes_any_mix else 3)


VOTES = list(range(20, 220))


@any_session
def test_of_several_votes_on_a_prompt_one_computes_it(scripted: Scripted, takes_any_mix: bool) -> None:
    engine, session = scripted(WORD, len(VOTES), takes_any_mix=takes_any_mix, by_hand=True)
    votes = [start(engine, VOTES, max_new_tokens=3) for _ in range(4)]
    finish(engine)
    assert [each.token_ids for each in votes] == [WORD[:3]] * 4
    assert session.steps == [[64], [64], [64], [8], [1] * 4, [1] * 4, [1] * 3]
    assert [each.cached_tokens for each in votes] == [0, *[len(VOTES) - 1] * 3]


@any_session
def test_a_prompt_that_goes_on_otherwise_computes_only_that(scripted: Scripted, takes_any_mix: bool) -> None:
    engine, session = scripted(WORD, len(VOTES), takes_any_mix=takes_any_mix, by_hand=True)
    first, second = start(engine, VOTES, max_new_tokens=1), start(engine, [*VOTES[:150], *OTHER * 5], max_new_tokens=1)
    finish(engine)
    assert (first.cached_tokens, second.cached_tokens) == (0, 150)
    assert session.steps == [[64], [64], [64], [8, 50]]


@any_session
@pytest.mark.parametrize("how", ["cancel", "fail"])
def test_one_that_waits_for_another_ones_prompt_outlives_it(scripted: Scripted, takes_any_mix: bool, how: str) -> None:
    engine, session = scripted(WORD, len(VOTES), takes_any_mix=takes_any_mix, by_hand=True)
    first, second = (start(engine, VOTES, max_new_tokens=3) for _ in range(2))
    engine.step()
    assert second.state is State.WAITING
    if how == "cancel":
        first.finish("cancelled")
    else:
        session.spoils = lambda chunk: chunk.num_logits > 0
        while not first.is_finished:
            engine.step()
        session.spoils = lambda _: False
    finish(engine)
    assert second.token_ids == WORD[:3]
    assert second.cached_tokens == (64 if how == "cancel" else 0)


def test_nobody_waits_for_a_prompt_that_must_not_be_kept(scripted: Scripted) -> None:
    engine, session = scripted(WORD, len(VOTES), by_hand=True, keep_prompts=False)
    votes = [start(engine, VOTES, max_new_tokens=1) for _ in range(2)]
    finish(engine)
    assert [each.cached_tokens for each in votes] == [0, 0]
    assert sum(session.runs) == 2 * len(VOTES)


def test_a_step_looks_at_nobody_that_waits_and_is_not_due(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = scripted(WORD, len(PROMPT), by_hand=True, max_concurrency=1)
    looks: list[Sequence] = []
    waiting = [start(engine, timeout_s=1000) for _ in range(100)]
    engine.step()
    for name in ("end_if_due", "time_left"):
        monkeypatch.setattr(Sequence, name, looks.append)
    for _ in range(5):
        engine.step()
    assert looks == []
    assert waiting[0].state is State.DECODING


@any_session
@pytest.mark.parametrize("how", ["finish", "cancel", "fail", "spoil"])
def test_a_slot_is_used_again_however_a_sequence_ended(scripted: Scripted, how: str, takes_any_mix: bool) -> None:
    engine, session = scripted(WORD, len(PROMPT), takes_any_mix=takes_any_mix, by_hand=True, max_concurrency=1)
    sequence = start(engine, max_new_tokens=4)
    engine.step()

    def fail() -> None:
        raise RuntimeFailed("out of order")

    if how == "cancel":
        sequence.finish("cancelled")
    elif how == "fail":
        session.before_run = fail
    elif how == "spoil":
        session.spoils = lambda _: True
    finish(engine)
    session.before_run, session.spoils = lambda: None, lambda _: False
    after = start(engine, max_new_tokens=4)
    finish(engine)
    assert after.token_ids == WORD
    assert session.slots == (2 if takes_any_mix else 1)


def test_a_slot_that_is_too_small_is_replaced(scripted: Scripted) -> None:
    engine, session = scripted(WORD, len(PROMPT), takes_any_mix=False, max_concurrency=1)
    run(engine, max_new_tokens=4)
    assert len(run(engine, max_new_tokens=600)) == 600
    run(engine, max_new_tokens=4)
    assert session.slots == 2


# ---- the prefix, and prompts that were kept ----

PREFIX_IDS = list(range(20, 60))


@pytest.fixture(scope="module")
def prefix(session: Session) -> Prefix:
    return compute_prefix(session, PREFIX_IDS)


@pytest.fixture
def restoring(tiny_bundle: Path, session: Session, prefix: Prefix) -> Engine:
    return Engine(session, Bundle.open(tiny_bundle).manifest, prefix)


@pytest.mark.parametrize(
    ("prompt", "cached"),
    [
        ([*PREFIX_IDS, 99, 98], 40),
        (PREFIX_IDS, 39),
        (PREFIX_IDS[:7], 6),
        ([*PREFIX_IDS[:10], 99, *PREFIX_IDS[11:]], 10),
        ([99, *PREFIX_IDS], 0),
        ([20], 0),
        ([99], 0),
    ],
    ids=["begins-with-it", "is-it", "shorter", "leaves-it", "another", "first-token", "one-other"],
)
def test_the_longest_common_part_is_restored_and_the_last_token_always_run(
    restoring: Engine, engine: Engine, prompt: list[int], cached: int
) -> None:
    sequence = start(restoring, prompt, max_new_tokens=12)
    assert ids_of(sequence) == run(engine, prompt, max_new_tokens=12)
    assert sequence.cached_tokens == cached
    again = start(restoring, prompt, max_new_tokens=12)
    assert ids_of(again) == sequence.token_ids
    assert again.cached_tokens == len(prompt) - 1


def test_a_slot_remembers_nothing_of_the_request_before(tiny_bundle: Path, session: Session, restoring: Engine) -> None:
    prompts = [[*PREFIX_IDS, *range(61, 61 + n)] for n in (1, 90, 3)] + [[70] * 30, PREFIX_IDS[:5]]
    manifest = Bundle.open(tiny_bundle).manifest
    fresh = [run(Engine(session, manifest, None), prompt, max_new_tokens=10) for prompt in prompts]
    for _ in range(2):
        assert [run(restoring, prompt, max_new_tokens=10) for prompt in prompts] == fresh


# ---- failures ----


@any_session
def test_numbers_that_are_none_fail_their_own_sequence_alone(scripted: Scripted, takes_any_mix: bool) -> None:
    engine, session = scripted(WORD, len(PROMPT), takes_any_mix=takes_any_mix, by_hand=True)
    bad, good = start(engine, max_new_tokens=4), start(engine, OTHER, max_new_tokens=4)
    engine.step()
    slot = engine._scheduler._running[bad]
    session.spoils = lambda chunk: chunk.slot is slot
    engine.step()
    assert isinstance(bad.error, OutputInvalid)
    assert (bad.token_ids, bad.finish_reason) == (WORD[:1], None)
    session.spoils = lambda _: False
    finish(engine)
    assert (good.token_ids, good.error) == (WORD, None)
    again = start(engine, max_new_tokens=4)
    finish(engine)
    assert (again.cached_tokens, again.token_ids) == (0, WORD)  # nothing of it was kept


def test_numbers_that_are_none_fail_a_real_sequence_alone(
    tiny_bundle: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(engine, OTHER, max_new_tokens=12)
    bundle = Bundle.open(tiny_bundle)
    mine = Engine(Session(bundle, threads=1), bundle.manifest, None)
    monkeypatch.setattr(mine._driver, "wake", lambda: None)
    bad, good = start(mine, max_new_tokens=12), start(mine, OTHER, max_new_tokens=12)
    step = mine._session.step

    def spoil(chunks: Any) -> Any:
        logits = step(chunks)
        for chunk, rows in zip(chunks, logits, strict=True):
            if chunk.slot is mine._scheduler._running.get(bad) and len(bad.token_ids) == 3:
                rows[:] = np.nan
        return logits

    monkeypatch.setattr(mine._session, "step", spoil)
    finish(mine)
    assert isinstance(bad.error, OutputInvalid)
    assert len(bad.token_ids) == 3
    assert good.token_ids == expected
    mine.close()


@any_session
def test_a_failed_step_fails_those_that_were_in_it_and_no_others(scripted: Scripted, takes_any_mix: bool) -> None:
    engine, session = scripted(WORD, len(PROMPT), takes_any_mix=takes_any_mix, by_hand=True, max_concurrency=2)
    failed = [start(engine, max_new_tokens=4), start(engine, OTHER, max_new_tokens=4)]
    waiting = start(engine, max_new_tokens=4)
    engine.step()

    def fail() -> None:
        raise RuntimeFailed("out of order")

    session.before_run = fail
    engine.step()
    session.before_run = lambda: None
    finish(engine)
    for each in failed:
        assert each.token_ids == WORD[:1]
        with pytest.raises(RuntimeFailed, match="out of order"):
            each.raise_error()
    assert (waiting.token_ids, waiting.error) == (WORD, None)


@any_session
def test_an_unexpected_exception_ends_everyone_and_the_engine_goes_on(
    scripted: Scripted, hold: Hold, caplog: pytest.LogCaptureFixture, takes_any_mix: bool
) -> None:
    engine, session = scripted(WORD, len(PROMPT), takes_any_mix=takes_any_mix, max_concurrency=1)
    gate = hold(session)
    sequences = [start(engine, max_new_tokens=4) for _ in range(3)]
    gate.wait()

    def fail() -> None:
        raise ZeroDivisionError("unheard of")

    session.before_run = fail
    with caplog.at_level(logging.ERROR, "rubricrm"):
        gate.let()
        for each in sequences:
            with pytest.raises(RuntimeFailed, match="ZeroDivisionError.*unheard of.*please report it"):
                ids_of(each)
    assert "a step of the engine failed" in caplog.text
    session.before_run = lambda: None
    assert run(engine, max_new_tokens=4) == WORD


@any_session
def test_a_slot_that_cannot_be_made_is_its_own_error(scripted: Scripted, takes_any_mix: bool, caplog: Any) -> None:
    engine, session = scripted(WORD, len(PROMPT), takes_any_mix=takes_any_mix)

    def refuse(*_: Any) -> Any:
        raise RuntimeFailed("making the KV cache: no memory")

    make, session.new_slots = session.new_slots, refuse
    with pytest.raises(RuntimeFailed, match="RUNTIME_FAILED: making the KV cache: no memory$"):
        run(engine)
    assert caplog.text == ""
    session.new_slots = make
    assert run(engine, max_new_tokens=4) == WORD


def test_a_listener_that_raises_disturbs_nobody(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT), by_hand=True)
    bad, good = start(engine, max_new_tokens=4), start(engine, max_new_tokens=4)
    bad.listen(lambda: 1 / 0)
    finish(engine)
    assert bad.token_ids == good.token_ids == WORD
    assert bad.error is good.error is None


def test_a_system_without_threads_is_a_typed_error_and_later_requests_work(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, session = scripted(WORD, len(PROMPT))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeFailed, match="can't start new thread"):
            start(engine)
    assert run(engine, max_new_tokens=2) == WORD[:2]
    assert session.runs == [len(PROMPT), 1]  # the other was not computed for nobody


# ---- the driver ----


def test_the_thread_ends_after_idling_and_another_one_starts(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "_IDLE_S", 0.01)
    engine, session = scripted(WORD, len(PROMPT))
    threads: list[threading.Thread] = []
    session.before_run = lambda: threads.append(threading.current_thread())
    for _ in range(3):
        assert run(engine, max_new_tokens=4) == WORD
        threads[-1].join(WAIT)
        assert not threads[-1].is_alive()
    assert len(set(threads)) == 3


# ---- closing ----


@any_session
def test_closing_ends_all_with_an_error(scripted: Scripted, hold: Hold, takes_any_mix: bool) -> None:
    """Those in the step, those between two steps, and those in the line; nothing is computed after it."""
    engine, session = scripted(WORD, len(PROMPT), takes_any_mix=takes_any_mix, max_concurrency=2)
    gate = hold(session)
    sequences = [start(engine) for _ in range(5)]
    gate.wait()
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not session._is_closed:
        time.sleep(0.001)
    gate.open()
    closing.join(WAIT)
    assert not closing.is_alive()
    for each in sequences:
        with pytest.raises(ModelClosed, match="the model was closed. Open it again"):
            ids_of(each)
    assert session.steps == []
    with pytest.raises(ModelClosed):
        start(engine)
    assert engine._slots._free == engine._slots._lent == {}
    assert engine._scheduler.sequences() == []


def test_closing_twice_and_from_several_threads_is_fine(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT))
    sequence = start(engine, max_new_tokens=1000)
    threads = [threading.Thread(target=engine.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    engine.close()
    assert sequence.is_finished


@pytest.mark.parametrize("event", ["token", "end", "cancelled-elsewhere", "timeout", "failure"])
def test_a_listener_may_close_the_engine(scripted: Scripted, event: str) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    has_closed = threading.Event()

    def close() -> None:
        if event == "token" or sequence.is_finished:
            engine.close()
            has_closed.set()

    may_go = threading.Event()
    session.before_run = lambda: may_go.wait(WAIT)
    sequence = start(engine, max_new_tokens=4 if event == "end" else 1000, timeout_s=1000)
    other = start(engine, max_new_tokens=2000)
    sequence.listen(close)
    if event == "timeout":
        expire(engine, sequence)
    elif event == "failure":
        session.spoils = lambda chunk: chunk.slot is engine._scheduler._running.get(sequence)
    may_go.set()
    if event == "cancelled-elsewhere":
        wait_for(sequence, 1)
        sequence.finish("cancelled")
    assert has_closed.wait(WAIT)
    with pytest.raises(ModelClosed):
        ids_of(other)


@pytest.mark.parametrize("event", ["token", "end"])
def test_a_listener_may_submit_more(scripted: Scripted, event: str) -> None:
    engine, _ = scripted(WORD, len(PROMPT))
    more: list[Sequence] = []
    has_come = threading.Event()

    def submit() -> None:
        if not more and (event == "token" or sequence.is_finished):
            more.append(start(engine, max_new_tokens=3))
            has_come.set()

    may_go = threading.Event()
    engine._session.before_run = lambda: may_go.wait(WAIT)  # type: ignore[attr-defined]
    sequence = start(engine, max_new_tokens=4)
    sequence.listen(submit)
    may_go.set()
    assert has_come.wait(WAIT)
    assert ids_of(more[0]) == WORD[:3]


def test_a_request_that_comes_while_the_engine_is_closed_is_refused_and_not_left_waiting(scripted: Scripted) -> None:
    """It was checked while the engine was open, and joins the line after everybody in it was ended."""
    engine, session = scripted(WORD, len(PROMPT))
    check, num_checks = session.check_open, []

    def check_and_close() -> None:
        check()
        if not num_checks:
            num_checks.append(1)
            engine.close()

    session.check_open = check_and_close
    with pytest.raises(ModelClosed):
        start(engine)
    assert engine._scheduler.sequences() == []


def test_a_close_while_a_slot_is_made_is_told_as_such(scripted: Scripted, caplog: Any) -> None:
    engine, session = scripted(WORD, len(PROMPT))
    make = session.new_slots

    def close_and_make(*arguments: Any) -> Any:
        session.close()
        return make(*arguments)

    session.new_slots = close_and_make
    with pytest.raises(ModelClosed, match="the model was closed. Open it again"):
        run(engine)
    assert caplog.text == ""


def test_a_closed_engine_ends_real_sequences_with_an_error(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    engine = Engine(Session(bundle, threads=1), bundle.manifest, None, EngineOptions(max_concurrency=2))
    engine._stop_ids = frozenset()
    sequences = [start(engine, max_new_tokens=2000) for _ in range(4)]
    wait_for(sequences[0], 3)
    engine.close()
    for each in sequences:
        with pytest.raises(ModelClosed, match="the model was closed.* Open it again"):
            ids_of(each)
    with pytest.raises(ModelClosed, match="the model was closed. Open it again"):
        start(engine)


# ---- processes ----

PROCESS = """
import faulthandler, os, signal, sys, threading, time
faulthandler.dump_traceback_later(60, exit=True)
from rubricrm.errors import ModelClosed
from rubricrm.runtime.bundle import Bundle
from rubricrm.generation.engine import Engine
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.session import Session
bundle = Bundle.open(sys.argv[1])
engine = Engine(Session(bundle, threads=2), bundle.manifest, None)
engine._stop_ids = frozenset()
def start(count=2000):
    return engine.submit(list(range(20, 30)), GenerationOptions(max_new_tokens=count))
"""

FORK = """
faulthandler.cancel_dump_traceback_later()  # at its exit, a fork would wait for that thread
signal.alarm(90)
sequences = [start() for _ in range(12)]
sequences[0].wait(lambda: len(sequences[0].token_ids) > 2)
waiter = threading.Thread(target=sequences[1].wait, daemon=True)
waiter.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        for each in sequences:
            each.wait()
            assert isinstance(each.error, ModelClosed), each.error
            each.finish("cancelled")
        try:
            start()
        except ModelClosed as error:
            assert "Open the model after the fork" in str(error), error
        else:
            sys.exit(3)
        engine.close()
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
for each in sequences:
    each.finish("cancelled")
assert (after := start(5)).wait() is None
assert len(after.token_ids) == 5
"""


def run_process(script: str, bundle: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROCESS + script, str(bundle)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_in_a_fork_all_is_an_error_and_the_parent_goes_on(tiny_bundle: Path) -> None:
    done = run_process(FORK, tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "threading.Thread(target=start).start()", "engine.close()"])
def test_an_interpreter_that_ends_while_the_thread_runs_ends_cleanly(tiny_bundle: Path, end: str) -> None:
    script = f"""
sequences = [start() for _ in range(12)]
sequences[0].wait(lambda: len(sequences[0].token_ids) > 2)
threading.Thread(target=sequences[1].wait, daemon=True).start()
{end}
"""
    for _ in range(3):
        done = run_process(script, tiny_bundle)
        assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_ends_what_its_thread_waits_for(tiny_bundle: Path) -> None:
    script = """
from rubricrm import RubricModel
signal.signal(signal.SIGINT, signal.default_int_handler)
engine.close()
model = RubricModel.open(sys.argv[1], threads=1)
model._backend.engine._stop_ids = frozenset()
started = []
submit = model._backend.engine.submit
def watched(*arguments, **keywords):
    started.append(submit(*arguments, **keywords))
    started[0].listen(lambda: os.kill(os.getpid(), signal.SIGINT) if len(started[0].token_ids) == 5 else None)
    return started[0]
model._backend.engine.submit = watched
try:
    model.generate("Hi", max_new_tokens=1900, stop_on_repetition=False)
except KeyboardInterrupt:
    print(started[0].finish_reason, 5 <= len(started[0].token_ids) < 1900)
model._backend.engine.submit = submit
print(model.generate("Hi", max_new_tokens=3).usage.completion_tokens)
"""
    done = run_process(script, tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["cancelled", "True", "3"]


INTERRUPTED = """
from rubricrm.generation import driver
driver._LONGEST_STOP_S = 0.2
signal.signal(signal.SIGUSR1, lambda *_: engine.close())
others = [start() for _ in range(3)]
others[0].wait(lambda: len(others[0].token_ids) > 2)
def interrupt(target, name):
    method = getattr(target, name)
    def interrupted(*arguments, **keywords):
        found = method(*arguments, **keywords)
        if threading.current_thread() is threading.main_thread():
            setattr(target, name, method)
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.01)  # the handler runs here
        return found
    setattr(target, name, interrupted)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the platform has no such signal")
@pytest.mark.parametrize(
    "place",
    [
        'interrupt(engine._session, "check_open")',
        'interrupt(engine._scheduler, "add")',
        'interrupt(engine._driver._changed, "notify")',
        'interrupt(others[0], "time_left"); others[0].options = GenerationOptions(timeout_s=1000)',
    ],
    ids=["before-the-line", "in-the-line", "waking", "waiting"],
)
def test_a_signals_handler_may_close_wherever_it_interrupts(tiny_bundle: Path, place: str) -> None:
    """Also where its thread holds a lock that the engine's thread waits for."""
    script = f"""{INTERRUPTED}
{place}
found = []
try:
    if "others" in {place!r}:
        others[0].wait()
    else:
        found.append(start())
except ModelClosed:
    pass
for each in [*others, *found]:
    each.wait()
    assert isinstance(each.error, ModelClosed), each.error
"""
    done = run_process(script, tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")


# ---- the choice ----


def test_a_seed_repeats_its_tokens(engine: Engine) -> None:
    sampled = [run(engine, temperature=1.0, seed=7, max_new_tokens=40) for _ in range(3)]
    assert sampled[0] == sampled[1] == sampled[2]
    assert sampled[0] != run(engine, temperature=1.0, seed=8, max_new_tokens=40)


def test_a_seed_repeats_its_tokens_in_another_process(tiny_bundle: Path, engine: Engine) -> None:
    script = f"""
import json, sys
from rubricrm.runtime.bundle import Bundle
from rubricrm.generation.engine import Engine
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.session import Session
bundle = Bundle.open(sys.argv[1])
engine = Engine(Session(bundle, threads=1), bundle.manifest, None)
sequence = engine.submit({PROMPT}, GenerationOptions(temperature=1.0, seed=7, max_new_tokens=40))
sequence.wait()
print(json.dumps(sequence.token_ids))
"""
    command = [sys.executable, "-c", script, str(tiny_bundle)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == run(engine, temperature=1.0, seed=7, max_new_tokens=40)


def test_without_a_seed_each_generation_draws_its_own(engine: Engine) -> None:
    sequences = [start(engine, temperature=1.0, max_new_tokens=40) for _ in range(3)]
    assert len({tuple(ids_of(sequence)) for sequence in sequences}) == 3
    assert len({sequence.seed for sequence in sequences}) == 3
    assert all(0 <= sequence.seed < 2**64 for sequence in sequences)


def test_a_drawn_seed_repeats_the_tokens(engine: Engine) -> None:
    sequence = start(engine, temperature=1.0, max_new_tokens=40)
    assert ids_of(sequence) == run(engine, temperature=1.0, seed=sequence.seed, max_new_tokens=40)


def test_greedy_decoding_ignores_the_seed(engine: Engine) -> None:
    assert len({tuple(run(engine, seed=seed, max_new_tokens=20)) for seed in (None, 0, 1, 2**64 - 1)}) == 1


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 1}, {"temperature": 2.0, "top_k": 3}], ids=str)
@pytest.mark.parametrize("winner", [261, 271])
def test_a_padding_row_of_the_vocabulary_is_never_chosen(
    scripted: Scripted, options: dict[str, Any], winner: int
) -> None:
    engine, _ = scripted(WORD, len(PROMPT), winner=winner)
    assert run(engine, max_new_tokens=4, **options) == WORD


def test_padding_rows_count_in_the_log_probabilities(scripted: Scripted) -> None:
    engine, _ = scripted(WORD, len(PROMPT), winner=265)
    sequence = start(engine, max_new_tokens=1, logprobs=1)
    assert ids_of(sequence) == WORD[:1]
    (entry,) = sequence.logprobs
    assert entry.top == ((265, 0.0),)
    assert entry.logprob < -1e8


def test_log_probabilities_do_not_depend_on_temperature_and_filters(engine: Engine, session: Session) -> None:
    row = session.run(session.new_slot(100), PROMPT)[0].astype(np.float64)
    expected = row - np.log(np.exp(row).sum())
    for options in ({}, {"temperature": 5.0, "top_k": 1, "seed": 1}):
        sequence = start(engine, max_new_tokens=1, logprobs=5, **options)
        (token_id,) = ids_of(sequence)
        (entry,) = sequence.logprobs
        assert entry.token_id == token_id
        assert entry.logprob == pytest.approx(expected[token_id], abs=1e-5)
        assert [i for i, _ in entry.top] == np.argsort(-expected, kind="stable")[:5].tolist()


def test_log_probabilities_come_only_when_asked_for(engine: Engine) -> None:
    without, with_them = start(engine, max_new_tokens=3), start(engine, max_new_tokens=3, logprobs=0)
    assert (len(ids_of(without)), without.logprobs) == (3, [])
    ids_of(with_them)
    assert [entry.token_id for entry in with_them.logprobs] == ids_of(with_them)
    assert [entry.top for entry in with_them.logprobs] == [()] * 3
