"""Writing a file so that a reader sees all of it or none, after a crash of the machine too."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, contents: bytes | str) -> None:
    r"""Write to a temporary sibling, then rename. What is no regular file, like a pipe, is written to.

    Text is written as UTF-8, a lone surrogate as \udcff: a path whose bytes are no UTF-8 holds such ones.

    Raises:
        OSError: It cannot be written; what was there before stays, and no sibling is left. The error names `path`.
    """
    data = contents.encode(errors="backslashreplace") if isinstance(contents, str) else contents
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    # Of this thread alone: several may write the same file at once, and the last one wins.
    writing = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.writing")
    try:
        writing.write_bytes(data)
        rename_whole(writing, path)
    except BaseException as error:
        with suppress(OSError):
            writing.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def rename_whole(writing: Path, path: Path) -> None:
    """Rename a finished file over another one, so that after a crash the name holds the old contents or the new.

    Without it, a file system may write the new name before the new contents.

    Raises:
        OSError: It cannot be written or renamed.
    """
    sync(writing)
    writing.replace(path)
    # Some file systems, of networks above all, cannot do this; the contents are safe without it.
    with suppress(OSError):
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk.

    Raises:
        OSError: The disk has failed or is full, or its file system cannot do this.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
