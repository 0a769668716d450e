"""A thread of its own for work that needs much memory for a moment."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from rubricrm.runtime.own_thread import OwnThread


def test_all_calls_are_in_one_thread_that_is_not_the_callers() -> None:
    own = OwnThread("test")
    with ThreadPoolExecutor(8) as pool:
        threads = list(pool.map(lambda _: own.call(threading.current_thread), range(100)))
    assert len(set(threads)) == 1
    assert threading.current_thread() not in threads


def test_nothing_runs_before_the_first_call() -> None:
    before = threading.active_count()
    own = OwnThread("test")
    assert threading.active_count() == before
    assert own.call(pow, 2, 10) == 1024


def test_what_a_call_raises_is_raised_and_the_next_one_works() -> None:
    own = OwnThread("test")
    with pytest.raises(ZeroDivisionError):
        own.call(divmod, 1, 0)
    assert own.call(divmod, 7, 2) == (3, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_has_its_own() -> None:
    own = OwnThread("test")
    own.call(int)
    child = os.fork()
    if child == 0:
        os._exit(0 if own.call(pow, 2, 3) == 8 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
