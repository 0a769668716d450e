"""Runs programs of others, in environments of their own where their pins clash with ours."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from rubricrm.errors import OptionInvalid
from rubricrm.runtime.cache_directory import cache_reason, own_directory, require_own

from rubricrm_export.errors import ExportFailed

_LOG_LINES = 20
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


def run_tool(words: Sequence[str]) -> None:
    """Run a command; its output goes to standard error as it comes, and its end into an error.

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


def program_of(environment: Path, program: str, requirements: Sequence[str]) -> Path:
    """Return a program of a virtual environment.

    Raises:
        OptionInvalid: It is not there; the message says what to install.
    """
    path = environment / "bin" / program
    if not path.is_file():
        wanted = " ".join(f"'{requirement}'" for requirement in requirements)
        raise OptionInvalid(f"{path}: is missing. Install it there: pip install {wanted}.")
    return path


def own_program(program: str, requirements: Sequence[str]) -> Path:
    """Return a program of an environment in the cache directory, which is made if it is missing (gigabytes, once).

    A program that another user may have put there is not run.

    Raises:
        ExportFailed: The environment cannot be made, or may be another user's.
        OptionInvalid: It was made, and has no such program.
    """
    name = f"{program}-{hashlib.sha256(' '.join(requirements).encode()).hexdigest()[:12]}"
    try:
        environment = own_directory("environments") / name
        if not (environment / "bin" / program).is_file():
            run_tool([sys.executable, "-m", "venv", str(environment)])
            run_tool([str(environment / "bin" / "python"), "-m", "pip", "install", *requirements])
        found = program_of(environment, program, requirements)
        require_own(found)
    except OSError as error:
        raise ExportFailed(
            f"{program} cannot be kept in the cache directory ({cache_reason(error)}). Set RUBRICRM_CACHE to a "
            "directory of your own, or pass --environment with an environment that has it."
        ) from error
    return found
