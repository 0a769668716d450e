"""The thread that steps: it comes with work, goes without, and survives what a step raises."""

import threading
from collections.abc import Callable, Iterator

import pytest
from rubricrm.errors import ModelClosed, RuntimeFailed
from rubricrm.generation import driver as driver_module
from rubricrm.generation.driver import Driver

WAIT = 30


class Work:
    """Steps that a test hands out, and what the driver did with them."""

    def __init__(self) -> None:
        self.left = 0
        self.threads: list[threading.Thread] = []
        self.errors: list[Exception] = []
        self.before_step: Callable[[], object] = lambda: None
        self._changed = threading.Condition()

    def step(self) -> bool:
        self.before_step()
        with self._changed:
            if not self.left:
                return False
            self.left -= 1
            self.threads.append(threading.current_thread())
            self._changed.notify_all()
            return True

    def fail(self, error: Exception) -> None:
        with self._changed:
            self.errors.append(error)
            self._changed.notify_all()

    def wait(self, is_there: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(is_there, WAIT)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def driver(work: Work) -> Iterator[Driver]:
    driver = Driver(work.step, work.fail)
    yield driver
    driver.stop()


def test_nothing_runs_before_there_is_work(driver: Driver, work: Work) -> None:
    assert driver._thread is None
    assert work.threads == []


def test_all_work_is_done_in_one_daemon_thread(driver: Driver, work: Work) -> None:
    work.left = 5
    driver.wake()
    work.wait(lambda: len(work.threads) == 5)
    work.left = 2
    driver.wake()
    work.wait(lambda: len(work.threads) == 7)
    (thread,) = set(work.threads)
    assert thread.daemon
    assert thread is not threading.current_thread()


def test_no_call_to_wake_is_lost(driver: Driver, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of those that come while the thread is about to end."""
    monkeypatch.setattr(driver_module, "_IDLE_S", 0)
    for number in range(300):
        work.left = 1
        driver.wake()
        work.wait(lambda number=number: len(work.threads) == number + 1)


def test_the_thread_ends_when_it_has_nothing_to_do_and_another_one_comes(
    driver: Driver, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "_IDLE_S", 0.01)
    for number in (1, 2):
        work.left = 1
        driver.wake()
        work.wait(lambda number=number: len(work.threads) == number)
        work.threads[-1].join(WAIT)
        assert not work.threads[-1].is_alive()
        assert driver._thread is None
    assert work.threads[0] is not work.threads[1]


def test_an_exception_is_told_and_the_work_goes_on(driver: Driver, work: Work) -> None:
    def fail() -> None:
        work.before_step = lambda: None
        raise ZeroDivisionError("once")

    work.before_step = fail
    driver.wake()
    work.wait(lambda: len(work.errors) == 1)
    work.left = 3
    driver.wake()
    work.wait(lambda: len(work.threads) == 3)
    assert isinstance(work.errors[0], ZeroDivisionError)


def test_stopping_waits_for_the_step_in_progress_and_nothing_follows(driver: Driver, work: Work) -> None:
    has_come, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        has_come.set()
        assert may_go.wait(WAIT)

    work.before_step, work.left = hold, 5
    driver.wake()
    assert has_come.wait(WAIT)
    stopping = threading.Thread(target=driver.stop)
    stopping.start()
    while not driver._is_stopped:
        pass
    assert stopping.is_alive()
    may_go.set()
    stopping.join(WAIT)
    assert not stopping.is_alive()
    assert len(work.threads) == 1
    with pytest.raises(ModelClosed):
        driver.wake()
    assert driver._thread is None or not driver._thread.is_alive()
    assert len(work.threads) == 1


def test_stopping_while_holding_what_the_step_needs_ends(
    driver: Driver, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal's handler does that has interrupted its own thread."""
    monkeypatch.setattr(driver_module, "_LONGEST_STOP_S", 0.05)
    lock, has_come = threading.Lock(), threading.Event()

    def need_lock() -> None:
        has_come.set()
        with lock:
            pass

    work.before_step, work.left = need_lock, 5
    with lock:
        driver.wake()
        assert has_come.wait(WAIT)
        thread = driver._thread
        driver.stop()
    assert thread is not None
    thread.join(WAIT)
    assert not thread.is_alive()
    assert len(work.threads) == 1


def test_the_thread_may_stop_itself(driver: Driver, work: Work) -> None:
    has_stopped = threading.Event()

    def stop() -> None:
        driver.stop()
        has_stopped.set()

    work.before_step, work.left = stop, 5
    driver.wake()
    assert has_stopped.wait(WAIT)
    driver.stop()
    assert len(work.threads) <= 1


def test_stopping_before_anything_ran_and_twice_is_fine(driver: Driver) -> None:
    driver.stop()
    driver.stop()
    with pytest.raises(ModelClosed):
        driver.wake()
    assert driver._thread is None


def test_a_thread_that_cannot_be_started_is_a_typed_error_and_no_end(
    driver: Driver, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    work.left = 1
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeFailed, match="can't start new thread"):
            driver.wake()
    driver.wake()
    work.wait(lambda: len(work.threads) == 1)
