"""Runs a tool of a reader, showing what it prints, and keeping the end of that for an error."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from rubricrm.errors import ExportFailed

_LOG_LINES = 20
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


def run_tool(words: Sequence[str]) -> None:
    """Run a command; its output goes to standard error as it comes.

    Raises:
        ExportFailed: It cannot be started, or failed.
    """
    name = Path(words[0]).name
    lines: deque[str] = deque(maxlen=_LOG_LINES)
    try:
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(_COLORS.sub("", line.rstrip()))
                sys.stderr.write(line)
    except OSError as error:
        raise ExportFailed(f"{words[0]}: cannot be started ({error.strerror}).") from error
    if process.returncode:
        listed = "\n".join(f"  {line}" for line in lines)
        raise ExportFailed(f"{name} failed with exit code {process.returncode}. It ended with:\n{listed}")
