"""Hidden siblings of an output, in which it is made: who dies while making it leaves one, and the next run removes it.

Whether its maker is alive is told by a lock on a file in it, which the system releases when the process ends, however
it ends. Process numbers cannot tell that: containers that share a disk have the same ones, and they are used again.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rubricrm.runtime.file_lock import FileLock, lock_file

logger = logging.getLogger(__name__)

_LOCK = "lock"
_REPLACED = "replaced"
_ATTEMPTS = 10
_in_use: set[Path] = set()  # of this process, which need no lock to be known


@contextmanager
def hidden_directory(output: Path) -> Iterator[Path]:
    """Yield a new directory beside `output` for as long as the block runs.

    It is locked, so that other processes leave it alone, and removed at the end. Where the file system has no locks
    (some of networks), the directory is made without one, and nobody removes it after a kill.

    Raises:
        OSError: It cannot be made.
    """
    directory, lock = _make(output)
    _in_use.add(directory)
    try:
        yield directory
    finally:
        _in_use.discard(directory)
        try:
            _remove(directory)
        finally:
            os.close(lock)


def replaced_place(directory: Path) -> Path:
    """Return where in a hidden directory the old output waits while the new one takes its place."""
    return directory / _REPLACED


def remove_abandoned(output: Path, *, with_replaced: bool = False) -> None:
    """Remove the hidden directories that killed processes left beside an output.

    Args:
        output: The output.
        with_replaced: Also those that hold the old output, which a kill left there. For when there is a new one.
    """
    named = re.compile(re.escape(f".{output.name}.writing-") + r"[a-z0-9_]{8}")
    for directory in output.parent.glob(f".{glob.escape(output.name)}.writing-*"):
        is_ours = named.fullmatch(directory.name) and directory not in _in_use
        if is_ours and (with_replaced or not replaced_place(directory).exists()):
            _remove_if_abandoned(directory)


def _make(output: Path) -> tuple[Path, int]:
    """Return a new locked directory and the descriptor that holds its lock."""
    for _ in range(_ATTEMPTS):
        directory = Path(tempfile.mkdtemp(prefix=f".{output.name}.writing-", dir=output.parent))
        # Somebody who looks for abandoned directories may remove it before it is locked: then once more.
        with suppress(FileNotFoundError):
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            if lock_file(lock, wait=True) is FileLock.UNKNOWN or _is_there(directory / _LOCK, lock):
                return directory, lock
            os.close(lock)
    raise OSError(f"no hidden directory could be made beside it in {_ATTEMPTS} attempts")


def _remove_if_abandoned(directory: Path) -> None:
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        with suppress(OSError):
            directory.rmdir()  # killed before it was locked: it is empty. Anything else is not ours
        return
    except OSError:  # another user's
        return
    try:
        state = lock_file(lock, wait=False)
        if state is FileLock.TAKEN:
            shutil.rmtree(directory, ignore_errors=True)
        elif state is FileLock.UNKNOWN:
            logger.warning(
                "%s: a process left it or is writing in it; the file system has no locks to tell. Remove it if no "
                "process writes there",
                directory,
            )
    finally:
        os.close(lock)


def _is_there(path: Path, lock: int) -> bool:
    """Whether a path still names the file of a descriptor."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory, ignore_errors=True)
    except BaseException:  # SIGTERM or Ctrl-C while it was being removed
        shutil.rmtree(directory, ignore_errors=True)
        raise
