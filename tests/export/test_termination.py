"""SIGTERM inside the work of a command."""

import os
import signal
import sys
import time

import pytest
from rubricrm_export.system.termination import terminated_cleanly


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_work_is_ended_and_cleaned_up() -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    @terminated_cleanly()
    def work() -> None:
        try:
            terminate()
        finally:
            terminate()  # a second one does not interrupt this
            cleaned.append(True)

    with pytest.raises(SystemExit) as raised:
        work()
    assert (raised.value.code, cleaned) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_import_that_turns_it_into_its_own_error_is_no_other_end() -> None:
    """As numpy's compiled part does: the signal came while onnxruntime was imported, and the runtime seemed missing."""

    @terminated_cleanly()
    def work() -> None:
        try:
            terminate()
        except SystemExit as error:
            raise ImportError("numpy._core.multiarray failed to import") from error

    with pytest.raises(SystemExit) as raised:
        work()
    assert raised.value.code == 143


def test_other_errors_pass() -> None:
    with pytest.raises(ImportError, match="no such"), terminated_cleanly():
        raise ImportError("no such module")


def test_a_finalizer_that_swallows_it_does_not_keep_the_work_alive() -> None:
    """Python prints what a finalizer or the callback of a weak reference raises, and goes on."""

    class Dropped:
        def __del__(self) -> None:
            terminate()
            sum(range(1000))  # the handler runs in here

    ended_late = []

    @terminated_cleanly()
    def work() -> None:
        Dropped()
        time.sleep(10)
        ended_late.append(True)

    hook = sys.unraisablehook
    with pytest.raises(SystemExit) as raised:
        work()
    assert (raised.value.code, ended_late, sys.unraisablehook) == (143, [], hook)
