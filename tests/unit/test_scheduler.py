"""Who is computed next: decoding before prefill, priority before arrival, a line with an end."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.errors import EngineBusy, RuntimeFailed
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.scheduler import MIXED_ROWS, Scheduler, Work
from rubricrm.generation.sequence import Sequence, State
from rubricrm.generation.slot_pool import SlotPool
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.kv_cache import bytes_per_position
from rubricrm.runtime.manifest import Manifest

Make = Callable[..., Scheduler]
NewSession = Callable[..., Any]
Scripted = Callable[..., tuple[Engine, Any]]


@pytest.fixture(scope="session")
def manifest(tiny_bundle: Path) -> Manifest:
    return Bundle.open(tiny_bundle).manifest


@pytest.fixture
def make(new_session: NewSession, manifest: Manifest) -> Make:
    """Return a function that makes a scheduler."""

    def make_one(max_rows: int = 256, *, takes_any_mix: bool = True, **limits: Any) -> Scheduler:
        session = new_session(takes_any_mix=takes_any_mix)
        session.max_rows = max_rows
        found = EngineOptions(**limits)
        pool = SlotPool(session, manifest.model, None, found)
        return Scheduler(pool, max_rows=max_rows, max_waiting=found.max_waiting)

    return make_one


def sequence(length: int = 10, max_new_tokens: int = 20, first: int = 5, **options: Any) -> Sequence:
    """A prompt that has nothing in common with one of another first token."""
    return Sequence([first] * length, GenerationOptions(**options), max_new_tokens)


def add(scheduler: Scheduler, *sequences: Sequence) -> None:
    for each in sequences:
        scheduler.add(each)


def compute(works: list[Work]) -> None:
    """Do what the engine does with a step's work."""
    for work in works:
        work.chunk.slot.cache.advance(len(work.chunk.token_ids))
        if work.chunk.num_logits:
            if work.sequence.state is State.PREFILLING:
                work.sequence.begin_decoding()
            work.sequence.push(75, None)


def step(scheduler: Scheduler) -> list[tuple[Sequence, int, int]]:
    """Compute a step; return who had how many tokens and rows in it."""
    works = scheduler.schedule()
    found = [(work.sequence, len(work.chunk.token_ids), work.chunk.num_logits) for work in works]
    compute(works)
    return found


# ---- rows ----


def test_nothing_to_do_is_no_work(make: Make) -> None:
    assert make().schedule() == []


def test_a_prompt_comes_in_chunks_and_only_its_end_has_a_row_of_logits(make: Make) -> None:
    scheduler, only = make(64), sequence(150)
    add(scheduler, only)
    assert [step(scheduler) for _ in range(4)] == [
        [(only, 64, 0)],
        [(only, 64, 0)],
        [(only, 22, 1)],
        [(only, 1, 1)],
    ]


def test_chunks_are_the_next_tokens_of_the_prompt(make: Make) -> None:
    scheduler = make(64)
    only = Sequence(list(range(5, 155)), GenerationOptions(), 5)
    add(scheduler, only)
    seen: list[int] = []
    while only.state is not State.DECODING:
        works = scheduler.schedule()
        seen += works[0].chunk.token_ids
        compute(works)
    assert seen == only.prompt_ids
    (work,) = scheduler.schedule()
    assert work.chunk.token_ids == only.token_ids[-1:]


def test_several_prompts_fill_a_step_the_oldest_first(make: Make) -> None:
    scheduler, first, second, third = make(64), sequence(40), sequence(40), sequence(40)
    add(scheduler, first, second, third)
    assert step(scheduler) == [(first, 40, 1), (second, 24, 0)]
    assert step(scheduler) == [(first, 1, 1), (second, 16, 1), (third, 40, 1)]
    assert step(scheduler) == [(first, 1, 1), (second, 1, 1), (third, 1, 1)]


def test_whoever_decodes_has_a_row_in_every_step_beside_a_long_prompt(make: Make) -> None:
    scheduler, decoding, newcomer = make(), [sequence(5) for _ in range(3)], sequence(200, first=6)
    add(scheduler, *decoding)
    step(scheduler)
    add(scheduler, newcomer)
    for rest in (200, 200 - MIXED_ROWS, 200 - 2 * MIXED_ROWS, 200 - 3 * MIXED_ROWS):
        count = min(rest, MIXED_ROWS)
        assert step(scheduler) == [*((each, 1, 1) for each in decoding), (newcomer, count, int(count == rest))]


def test_without_anybody_that_decodes_a_prompt_takes_the_whole_step(make: Make) -> None:
    scheduler, only = make(), sequence(600)
    add(scheduler, only)
    assert [step(scheduler)[0][1] for _ in range(3)] == [256, 256, 88]


@pytest.mark.parametrize("max_rows", [1, 2, 5, 64, 65, 70])
@pytest.mark.parametrize("takes_any_mix", [True, False])
def test_a_step_never_has_more_rows_than_the_session_takes(make: Make, max_rows: int, takes_any_mix: bool) -> None:
    scheduler = make(max_rows, takes_any_mix=takes_any_mix)
    everyone = [sequence(30, 4) for _ in range(12)]
    add(scheduler, *everyone)
    while works := step(scheduler):
        assert sum(count for _, count, _ in works) <= max_rows
        assert all(count for _, count, _ in works)
    assert {each.finish_reason for each in everyone} == {"length"}


# ---- the line ----


def test_as_many_run_as_there_are_slots_and_the_next_when_one_ends(make: Make) -> None:
    scheduler, first, second, third = make(max_concurrency=2), sequence(), sequence(), sequence()
    add(scheduler, first, second, third)
    assert {each for each, _, _ in step(scheduler)} == {first, second}
    assert third.state is State.WAITING
    second.finish("cancelled")
    assert {each for each, _, _ in step(scheduler)} == {first, third}


def test_priority_comes_before_arrival(make: Make) -> None:
    scheduler = make(max_concurrency=1)
    running = sequence(max_new_tokens=1)
    waiting = [sequence(max_new_tokens=1, priority=priority) for priority in (0, 5, -1, 5, 0)]
    add(scheduler, running)
    step(scheduler)
    add(scheduler, *waiting)
    order = [step(scheduler)[0][0] for _ in waiting]
    assert order == [waiting[place] for place in (1, 3, 0, 4, 2)]


@settings(max_examples=60)
@given(
    priorities=st.lists(st.integers(-2, 2), min_size=1, max_size=25),
    lengths=st.lists(st.integers(1, 90), min_size=25, max_size=25),
    slots=st.integers(1, 4),
    memory=st.sampled_from([None, 120, 200]),
)
def test_nobody_is_overtaken_by_a_later_one_of_its_priority(
    new_session: NewSession,
    manifest: Manifest,
    priorities: list[int],
    lengths: list[int],
    slots: int,
    memory: int | None,
) -> None:
    """Not by a smaller one either, that would fit where the next in the line does not."""
    per_position = bytes_per_position(manifest.model, "float32")
    limits = EngineOptions(max_concurrency=slots, max_memory=None if memory is None else memory * per_position)
    scheduler = Scheduler(SlotPool(new_session(), manifest.model, None, limits), max_rows=64, max_waiting=1000)
    waiting = [sequence(length, 3, priority=p) for p, length in zip(priorities, lengths, strict=False)]
    add(scheduler, *waiting)
    order: list[Sequence] = []
    while works := scheduler.schedule():
        order += [each for each in scheduler._running if each not in order]
        compute(works)
    assert order == sorted(waiting, key=lambda each: -each.options.priority)
    assert {each.finish_reason for each in waiting} == {"length"}


def test_a_full_line_refuses_and_names_the_limit(make: Make) -> None:
    scheduler = make(max_concurrency=1, max_waiting=3)
    add(scheduler, *(sequence() for _ in range(3)))
    with pytest.raises(EngineBusy, match="3 requests wait already, which is the limit.*max_waiting"):
        scheduler.add(sequence())
    step(scheduler)  # one has a slot now
    scheduler.add(sequence())
    with pytest.raises(EngineBusy):
        scheduler.add(sequence())


def test_those_that_ended_in_the_line_do_not_count(make: Make) -> None:
    scheduler, waiting = make(max_concurrency=1, max_waiting=3), [sequence() for _ in range(3)]
    add(scheduler, *waiting)
    waiting[1].finish("cancelled")
    waiting[2].fail(RuntimeFailed("out of order"))
    later = [sequence(), sequence()]
    add(scheduler, *later)
    with pytest.raises(EngineBusy):
        scheduler.add(sequence())
    waiting[0].finish("timeout")
    assert step(scheduler)[0][0] is later[0]
    assert scheduler.sequences() == later


def test_who_ended_in_the_line_gets_no_slot(make: Make) -> None:
    scheduler, first, second = make(), sequence(), sequence()
    add(scheduler, first, second)
    first.finish("cancelled")
    assert [each for each, _, _ in step(scheduler)] == [second]
    assert (first.admitted, first.finish_reason) == (None, "cancelled")


@pytest.mark.parametrize("state", [State.PREFILLING, State.DECODING])
def test_who_ended_on_its_way_gives_its_slot_to_the_next(make: Make, state: State) -> None:
    scheduler, first, second = make(64, max_concurrency=1), sequence(100), sequence()
    add(scheduler, first, second)
    while first.state is not state:
        step(scheduler)
    first.finish("cancelled")
    assert [each for each, _, _ in step(scheduler)] == [second]


# ---- through the engine ----


@pytest.mark.parametrize("takes_any_mix", [True, False])
def test_a_thousand_requests_to_a_line_of_ten_all_end(scripted: Scripted, takes_any_mix: bool) -> None:
    engine, _ = scripted([75, 76, 77, 78], 10, takes_any_mix=takes_any_mix, max_concurrency=4, max_waiting=10)
    taken: list[Sequence] = []
    num_refused = [0] * 8

    def submit(thread: int) -> None:
        for _ in range(125):
            try:
                taken.append(engine.submit(list(range(20, 30)), GenerationOptions(max_new_tokens=4)))
            except EngineBusy:
                num_refused[thread] += 1

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for each in taken:
        each.wait()
    assert len(taken) + sum(num_refused) == 1000
    assert len(taken) >= 10
    assert all((each.finish_reason, each.token_ids) == ("length", [75, 76, 77, 78]) for each in taken)


def test_the_line_takes_ten_while_all_slots_are_busy(scripted: Scripted) -> None:
    engine, _ = scripted([75], 10, by_hand=True, max_concurrency=2, max_waiting=10)
    prompt, options = list(range(20, 30)), GenerationOptions(max_new_tokens=2)
    running = [engine.submit(prompt, options) for _ in range(2)]
    engine.step()
    waiting = [engine.submit(prompt, options) for _ in range(10)]
    for _ in range(988):
        with pytest.raises(EngineBusy):
            engine.submit(prompt, options)
    while engine.step():
        pass
    assert {each.finish_reason for each in [*running, *waiting]} == {"length"}


@pytest.mark.parametrize("how", ["event", "timeout"])
def test_those_whose_end_nobody_noticed_yet_do_not_count_either(scripted: Scripted, how: str) -> None:
    engine, _ = scripted([75], 10, by_hand=True, max_concurrency=1, max_waiting=2)
    prompt, cancel = list(range(20, 30)), threading.Event()
    options = GenerationOptions(timeout_s=1000)
    waiting = [engine.submit(prompt, options, cancel=cancel) for _ in range(2)]
    with pytest.raises(EngineBusy):
        engine.submit(prompt, GenerationOptions())
    if how == "event":
        cancel.set()
    else:
        for each in waiting:
            each.started -= 2000
            engine._scheduler._deadlines.add(each)
    later = engine.submit(prompt, GenerationOptions())
    assert [each.finish_reason for each in waiting] == ["cancelled" if how == "event" else "timeout"] * 2
    engine.step()
    assert later.state is State.DECODING
