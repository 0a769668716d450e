"""Locks of the system on open files: they end with the process that took them, however it ends."""

from __future__ import annotations

from enum import Enum


class FileLock(Enum):
    """What became of an attempt to lock a file; UNKNOWN: the file system has no locks."""

    TAKEN = "taken"
    HELD = "held"
    UNKNOWN = "unknown"


def lock_file(descriptor: int, *, wait: bool) -> FileLock:
    """Lock an open file for this process; the lock is given back when the file is closed.

    Args:
        descriptor: Of the file.
        wait: Whether to wait while another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return FileLock.UNKNOWN
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return FileLock.HELD
    except OSError:
        return FileLock.UNKNOWN
    return FileLock.TAKEN
