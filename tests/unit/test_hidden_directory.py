"""Hidden directories: alive while somebody holds their lock, removed when nobody does."""

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rubricrm.runtime import hidden_directory as module
from rubricrm.runtime.hidden_directory import hidden_directory, remove_abandoned, replaced_place

NAME = ".bundle.writing-abc_1234"
MAKER = """
import signal, sys
from pathlib import Path
from rubricrm.runtime.hidden_directory import hidden_directory
with hidden_directory(Path(sys.argv[1])) as directory:
    (directory / "half").touch()
    print(directory, flush=True)
    signal.pause()
"""


@contextmanager
def maker(output: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that makes an output, and its hidden directory."""
    command = [sys.executable, "-c", MAKER, str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def abandoned(tmp_path: Path, name: str = NAME) -> Path:
    directory = tmp_path / name
    directory.mkdir()
    (directory / "lock").touch()
    (directory / "half").touch()
    return directory


def test_directory_is_there_for_the_block_and_gone_after_it(tmp_path: Path) -> None:
    with hidden_directory(tmp_path / "bundle") as directory:
        assert directory.parent == tmp_path
        assert directory.name.startswith(".bundle.writing-")
        remove_abandoned(tmp_path / "bundle")
        assert directory.exists()
    assert not any(tmp_path.iterdir())


def test_two_makers_do_not_meet(tmp_path: Path) -> None:
    with hidden_directory(tmp_path / "bundle") as one, hidden_directory(tmp_path / "bundle") as two:
        assert one != two
        remove_abandoned(tmp_path / "bundle")
        assert one.exists()
        assert two.exists()


def test_directory_of_a_running_process_is_kept_and_that_of_a_killed_one_removed(tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    with maker(output) as (process, directory):
        remove_abandoned(output, with_replaced=True)
        assert (directory / "half").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (directory / "half").exists()
        remove_abandoned(output)
        assert not directory.exists()


def test_process_number_says_nothing(tmp_path: Path) -> None:
    # In a container every run has the same number, and a number is used again.
    directory = abandoned(tmp_path)
    (directory / "pid").write_text(str(os.getpid()))
    remove_abandoned(tmp_path / "bundle")
    assert not directory.exists()


def test_what_a_kill_before_the_lock_leaves_is_removed(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    remove_abandoned(tmp_path / "bundle")
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    "name",
    [
        ".bundle.writing-",
        ".bundle.writing-123",
        ".bundle.writing-ABC_1234",
        ".bundle.writing",
        ".other.writing-abc_1234",
        "bundle.writing-abc_1234",
        ".bundle.backup-abc_1234",
    ],
)
def test_what_is_named_otherwise_is_kept(tmp_path: Path, name: str) -> None:
    directory = abandoned(tmp_path, name)
    remove_abandoned(tmp_path / "bundle", with_replaced=True)
    assert (directory / "half").exists()


def test_what_has_no_lock_is_kept(tmp_path: Path) -> None:
    directory = abandoned(tmp_path)
    (directory / "lock").unlink()
    remove_abandoned(tmp_path / "bundle", with_replaced=True)
    assert (directory / "half").exists()


def test_old_output_that_was_moved_aside_waits_for_a_new_one(tmp_path: Path) -> None:
    directory = abandoned(tmp_path)
    replaced_place(directory).mkdir()
    remove_abandoned(tmp_path / "bundle")
    assert directory.exists()
    remove_abandoned(tmp_path / "bundle", with_replaced=True)
    assert not directory.exists()


def test_directory_that_vanishes_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, made = os.open, []

    def removed_first(path: Path, *arguments: int) -> int:
        if not made:
            made.append(path)
            Path(path).parent.rmdir()
        return opened(path, *arguments)

    monkeypatch.setattr(module.os, "open", removed_first)
    with hidden_directory(tmp_path / "bundle") as directory:
        assert directory != Path(made[0]).parent
        assert (directory / "lock").exists()


def test_directory_that_is_removed_while_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, removed = fcntl.flock, []

    def removed_meanwhile(lock: int, operation: int) -> None:
        if not removed:
            (directory,) = tmp_path.iterdir()
            (directory / "lock").unlink()
            directory.rmdir()
            removed.append(directory)
        flock(lock, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with hidden_directory(tmp_path / "bundle") as directory:
        assert directory != removed[0]
        assert (directory / "lock").exists()


def test_file_system_without_locks_removes_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    directory = abandoned(tmp_path)
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with hidden_directory(tmp_path / "bundle") as mine, caplog.at_level(logging.WARNING):
        remove_abandoned(tmp_path / "bundle")
        assert mine.exists()
    assert not mine.exists()
    assert (directory / "half").exists()
    (warning,) = caplog.messages
    assert f"{directory}: a process left it or is writing in it" in warning


def test_parent_in_which_nothing_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), hidden_directory(tmp_path / "gone" / "bundle"):
        pass
