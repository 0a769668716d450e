"""The directory of a job: what it is, who works in it, what is done.

OUT/job.json       the identity: another job is refused here
OUT/staged/        the input with ids
OUT/attempt-N/     what is under way; gone when it is done
OUT/rubrics/       the output, from the end of the first attempt on; always whole
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rubricrm.errors import OutputExists, WriteFailed
from rubricrm.runtime.file_lock import FileLock, lock_file
from rubricrm.runtime.whole_file import write_whole

from rubricrm_batch.errors import JobBusy, JobDiffers

_IDENTITY = "job.json"
_LOCK = ".lock"
_FORMAT = 1


class Job:
    """A job's directory.

    Attributes:
        path: OUT.
        staged: The input with ids.
        rubrics: The output.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.staged = path / "staged"
        self.rubrics = path / "rubrics"

    @property
    def is_begun(self) -> bool:
        """Whether the input is staged and the identity is written."""
        return (self.path / _IDENTITY).is_file()

    @property
    def is_published(self) -> bool:
        """Whether there is an output."""
        return self.rubrics.is_dir()

    def attempt(self, number: int) -> Path:
        """Return the directory of an attempt."""
        return self.path / f"attempt-{number}"

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Compare with the identity of the job that was begun here; a directory that is no job is refused.

        Raises:
            JobDiffers: The job is another one; the message says in what.
            OutputExists: The directory holds something else.
        """
        if not self.is_begun:
            self._refuse_foreign()
            return
        try:
            found = json.loads((self.path / _IDENTITY).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise OutputExists(f"{self.path / _IDENTITY}: cannot be read ({error}). Choose another output.") from error
        found = found if isinstance(found, dict) else {}
        here, there = _flat({"format": _FORMAT, **identity}), _flat(found)
        if differing := [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]:
            told = "; ".join(
                f"{name}: {_shown(there.get(name))} there, {_shown(here.get(name))} now" for name in differing
            )
            raise JobDiffers(f"{self.path}: holds another job ({told}). Give the same again, or another output.")

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Write the identity: from now on the job is resumed, not begun.

        Raises:
            WriteFailed: It cannot be written.
        """
        text = json.dumps({"format": _FORMAT, **identity}, indent=2, ensure_ascii=False) + "\n"
        with write_errors(self.path):
            write_whole(self.path / _IDENTITY, text)

    def _refuse_foreign(self) -> None:
        own = {_LOCK, self.staged.name}
        others = [path.name for path in self.path.iterdir() if path.name not in own and path.name[0] != "."]
        if others:
            raise OutputExists(f"{self.path}: holds {others[0]!a} and no job. Choose another output, or an empty one.")
        shutil.rmtree(self.staged, ignore_errors=True)  # of a run that was killed before it was begun


@contextmanager
def locked_job(path: Path) -> Iterator[Job]:
    """Yield the job of a directory, which is made if it is missing; nobody else works in it meanwhile.

    The lock is the system's: it ends with this process, however that ends. A directory that was made for a job that was
    never begun is removed.

    Raises:
        JobBusy: Another process works there.
        WriteFailed: The directory cannot be made.
    """
    is_new = not path.exists()
    with write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    job = Job(path.resolve())
    try:
        _take(lock, path)
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield job
        is_new = False
    finally:
        if is_new and not job.is_begun:
            shutil.rmtree(job.staged, ignore_errors=True)
            with suppress(OSError):
                (path / _LOCK).unlink()
                path.rmdir()
        os.close(lock)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn what the system says into WriteFailed."""
    try:
        yield
    except OSError as error:
        raise WriteFailed(
            f"{path}: cannot be written ({error.strerror or error}). Free some space or choose another output; then "
            "the same command goes on."
        ) from error


def _take(lock: int, path: Path) -> None:
    # UNKNOWN: a file system without locks, of some networks. The audit would see what two runs do.
    if lock_file(lock, wait=False) is FileLock.HELD:
        who = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
        raise JobBusy(f"{path}: process {who} works on this job. Wait for it, or choose another output.")


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}\u2026"
