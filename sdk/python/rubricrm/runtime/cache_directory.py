"""The directory for what this machine computed once, and the rule that says whether what lies there is our own.

The rule: the cache directory and all that is read or executed below it belong to this process's user, and no other
user may write there; no directory above it may be writable by everyone unless it is sticky, as /tmp is. Directories are
made with the mode 0700, and what lies in such a directory is out of others' reach whatever its own mode. What breaks
the rule is neither used nor changed: the work is done without a cache. There is no fallback to a directory that other
users can name in advance.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

_VARIABLE = "RUBRICRM_CACHE"
_PRIVATE = 0o700
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_REACHABLE_BY_OTHERS = stat.S_IXGRP | stat.S_IXOTH
_REMEDY = f"Set {_VARIABLE} to a directory of your own, with the mode 0700."


class CacheError(OSError):
    """There is no cache directory here, or what lies there may be another user's. Its text is one clause."""


def cache_directory() -> Path:
    """Return where data that belongs to this machine is kept: $RUBRICRM_CACHE, else the platform's user cache.

    Raises:
        CacheError: The variable is not set and this user has no home, as in some containers.
    """
    chosen = os.environ.get(_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    try:
        return _user_cache()
    except RuntimeError as error:
        raise CacheError("this user has no home directory") from error


def _user_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/rubricrm"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "rubricrm/cache"
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    # A path that is not absolute is to be ignored, by the specification of this variable.
    return (Path(chosen) if chosen.startswith("/") else Path.home() / ".cache") / "rubricrm"


def own_directory(*names: str) -> Path:
    """Return a directory below the cache directory, made if it is missing, whose files may be used.

    Raises:
        OSError: It cannot be made. CacheError: it, a directory above it or a file in it breaks this module's rule.
    """
    directory = cache_directory().joinpath(*names)
    _make(directory)
    require_own(directory)
    for entry in directory.iterdir():
        require_own(entry)
    return directory


def require_own(path: Path) -> None:
    """Check the cache directory, a path below it and every directory between them by this module's rule.

    Raises:
        OSError: It cannot be looked at. CacheError: It breaks the rule; the text says what does.
    """
    if not hasattr(os, "geteuid"):
        return  # Windows keeps the directories of a user from others by itself
    top = cache_directory()
    place = top.resolve()
    for directory in place.parents:
        mode = directory.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise CacheError(f"{directory} may be written by everyone")
    is_private = _is_private(place, is_within_private=False)
    for name in path.relative_to(top).parts:
        place /= name
        is_private = _is_private(place, is_within_private=is_private)


def _is_private(path: Path, *, is_within_private: bool) -> bool:
    """Check one file or directory; return whether nobody else reaches what lies in it."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return is_within_private  # another process has just renamed it
    if found.st_uid != os.geteuid():
        raise CacheError(f"{path} belongs to user {found.st_uid}, this process runs as {os.geteuid()}")
    is_link = stat.S_ISLNK(found.st_mode)
    if not is_within_private and not is_link and found.st_mode & _WRITABLE_BY_OTHERS:
        raise CacheError(f"{path} may be written by other users")
    return is_within_private or (stat.S_ISDIR(found.st_mode) and not found.st_mode & _REACHABLE_BY_OTHERS)


def cache_problem() -> str | None:
    """Return why nothing can be kept between runs here, None where it can. Makes no directory."""
    try:
        directory = cache_directory()
        existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
        if existing == directory:
            require_own(directory)
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise CacheError(f"{existing} cannot be written")
    except OSError as error:
        return f"{cache_reason(error)}. {_REMEDY}"
    return None


def cache_reason(error: OSError) -> str:
    """Return in words why the cache cannot be used."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def warn_without_cache(error: OSError) -> None:
    """Log that nothing is kept, once for each reason in a process: several parts of an opening ask for the cache."""
    _warn_once(f"nothing is kept between runs ({cache_reason(error)}): opening takes longer each time. {_REMEDY}")


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def _make(directory: Path) -> None:
    """Make a directory and those above it, each for this user alone."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for part in reversed(missing):
        part.mkdir(_PRIVATE, exist_ok=True)
