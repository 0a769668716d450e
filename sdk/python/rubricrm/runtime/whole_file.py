"""Writing a file so that a reader sees all of it or none."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def write_whole(path: Path, contents: bytes | str) -> None:
    """Write to a temporary sibling, then rename; text as UTF-8. What is no regular file, like a pipe, is written to.

    Raises:
        OSError: It cannot be written; what was there before stays, and no sibling is left.
    """
    data = contents.encode() if isinstance(contents, str) else contents
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    # Of this thread alone: several may write the same file at once, and the last one wins.
    writing = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.writing")
    try:
        writing.write_bytes(data)
        writing.replace(path)
    except BaseException:
        writing.unlink(missing_ok=True)
        raise
