"""The directories of one attempt, which a killed run leaves and the next one takes over.

    attempt-N/staged/       rows of an attempt after the first
    attempt-N/run-M/        rubrics/ and checkpoint/, written by Ray

Every run has a directory of its own, into which it takes what the one before has finished. Ray's processes outlive a
killed driver for some seconds: what they still write goes to the old directory, where nobody looks.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

_PENDING = ".pending.parquet"


class Run:
    """One run of an attempt.

    Attributes:
        rubrics: Where Ray writes rows.
        checkpoint: Where Ray notes which rows are written.
    """

    def __init__(self, path: Path) -> None:
        self.rubrics = path / "rubrics"
        self.checkpoint = path / "checkpoint"

    def num_rows(self, counted: dict[str, int]) -> int:
        """Return how many rows are done. `counted` remembers files between calls."""
        for path in committed(self.checkpoint):
            if path.name not in counted:
                counted[path.name] = parquet.read_metadata(path).num_rows
        return sum(counted.values())


def begin_run(attempt: Path) -> Run:
    """Return a new run of an attempt, with all that the last one finished. Costs a link per file.

    Raises:
        OSError: It cannot be written.
    """
    attempt.mkdir(exist_ok=True)
    earlier = sorted(attempt.glob("run-*"), key=_number)
    number = _number(earlier[-1]) + 1 if earlier else 1
    preparing = attempt / f"preparing-{number}"
    shutil.rmtree(preparing, ignore_errors=True)
    new = Run(preparing)
    new.rubrics.mkdir(parents=True)
    new.checkpoint.mkdir()
    if earlier:
        _take_over(Run(earlier[-1]), new)
    path = attempt / f"run-{number}"
    preparing.rename(path)
    for old in earlier:
        shutil.rmtree(old, ignore_errors=True)
    return Run(path)


def committed(checkpoint: Path) -> list[Path]:
    """Return the checkpoints of blocks that are written whole."""
    return [path for path in sorted(checkpoint.glob("*.parquet")) if not path.name.endswith(_PENDING)]


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that nobody changes a second name, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _take_over(old: Run, new: Run) -> None:
    """Take over blocks whose rows are all there: after a crash of the machine a file may be shorter than it was."""
    for checkpoint in committed(old.checkpoint):
        files = list(old.rubrics.glob(f"{checkpoint.stem}-*.parquet"))
        if _num_rows(checkpoint) == sum(map(_num_rows, files)) > 0:
            for file in files:
                link_or_copy(file, new.rubrics / file.name)
            link_or_copy(checkpoint, new.checkpoint / checkpoint.name)


def _num_rows(path: Path) -> int:
    try:
        return int(parquet.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return 0


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
