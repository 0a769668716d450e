"""Who ends without being computed to the end, and what a look costs."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.generation.deadlines import Deadlines
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sequence import Sequence


def sequence(deadline: float | None = None, cancel: threading.Event | None = None) -> Sequence:
    """A sequence whose time is up so many seconds from now."""
    if deadline is None:
        return Sequence([5], GenerationOptions(), 5, cancel=cancel)
    started = time.perf_counter() + deadline - 1000
    return Sequence([5], GenerationOptions(timeout_s=1000), 5, cancel=cancel, started=started)


def watching(*sequences: Sequence) -> Deadlines:
    deadlines = Deadlines()
    for each in sequences:
        deadlines.add(each)
    return deadlines


def test_who_has_neither_a_timeout_nor_an_event_is_never_due() -> None:
    assert watching(sequence(), sequence()).take_due() == []


@given(times=st.lists(st.sampled_from([-3.0, -2.0, -1.0, 500.0, 600.0, None]), max_size=200))
def test_those_whose_time_is_up_are_due_once_the_earliest_first(times: list[float | None]) -> None:
    sequences = [sequence(each) for each in times]
    deadlines = watching(*sequences)
    due = deadlines.take_due()
    assert set(due) == {each for each, left in zip(sequences, times, strict=True) if left is not None and left < 0}
    assert [each.deadline for each in due] == sorted(each.deadline for each in due if each.deadline is not None)
    assert deadlines.take_due() == []


def test_one_that_is_cancelled_by_its_event_is_due_once() -> None:
    events = [threading.Event() for _ in range(3)]
    sequences = [sequence(cancel=event) for event in events]
    deadlines = watching(*sequences, sequence())
    assert deadlines.take_due() == []
    events[1].set()
    assert deadlines.take_due() == [sequences[1]]
    assert deadlines.take_due() == []
    events[0].set()
    events[2].set()
    assert deadlines.take_due() == [sequences[0], sequences[2]]


@pytest.mark.parametrize("has_event", [True, False])
def test_those_that_ended_are_forgotten(has_event: bool) -> None:
    """Else each would be held until its timeout, maybe hours later."""
    deadlines = Deadlines()
    for _ in range(2000):
        each = sequence(None if has_event else 3600.0, threading.Event() if has_event else None)
        deadlines.add(each)
        each.finish("cancelled")
        deadlines.take_due()
    assert len(deadlines._timed) + len(deadlines._cancellable) < 200


def test_those_that_have_not_ended_are_kept_however_many() -> None:
    sequences = [sequence(500.0) for _ in range(1000)]
    deadlines = watching(*sequences)
    assert {entry[2] for entry in deadlines._timed} == set(sequences)
