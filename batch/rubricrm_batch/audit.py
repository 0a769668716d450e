"""Whether every row of the input is in the output, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rubricrm_batch.columns import ERROR_CODE, ID, RETRYABLE
from rubricrm_batch.id_partitions import IdPartitions
from rubricrm_batch.parquet_rows import rows_of
from rubricrm_batch.staging import staged_ids

_SHOWN = 5
_FINISH_REASON = "finish_reason"


@dataclass
class Audit:
    """What a comparison of ids found.

    Attributes:
        rows: Of the input.
        missing: Ids of the input that were not written.
        repeated: Ids that were written more than once.
        foreign: Ids that were written and are not in the input.
        shown: Up to five ids of each of these kinds.
        errors: Rows that failed, by code.
        retryable: How many of these may succeed with --retry-failed.
        finish_reasons: Rows that were answered, by why the answer ended.
    """

    rows: int = 0
    missing: int = 0
    repeated: int = 0
    foreign: int = 0
    shown: dict[str, list[str]] = field(default_factory=lambda: {"missing": [], "repeated": [], "foreign": []})
    errors: Counter[str] = field(default_factory=Counter)
    retryable: int = 0
    finish_reasons: Counter[str] = field(default_factory=Counter)

    @property
    def is_whole(self) -> bool:
        """Whether every row was written once, and nothing else."""
        return not (self.missing or self.repeated or self.foreign)

    @property
    def failed(self) -> int:
        """How many rows hold an error."""
        return self.errors.total()

    def add_part(self, given: set[str], written: Counter[str]) -> None:
        """Compare the ids of one part."""
        self.rows += len(given)
        self.missing += self._show("missing", given - written.keys())
        self.foreign += self._show("foreign", written.keys() - given)
        self.repeated += self._show("repeated", {row for row, count in written.items() if count > 1})

    def _show(self, kind: str, ids: set[str]) -> int:
        self.shown[kind] = sorted([*self.shown[kind], *sorted(ids)[:_SHOWN]])[:_SHOWN]
        return len(ids)


def audit(staged: Path, written: Path, scratch: Path) -> Audit:
    """Compare the ids that went in with those that came out, part by part.

    Args:
        staged: The input with ids.
        written: The output.
        scratch: A new directory, for ids by their hash.

    Memory: as `IdPartitions`.
    """
    found = Audit()
    scratch.mkdir()
    given = IdPartitions(scratch / "in", staged_ids(staged))
    came = IdPartitions(scratch / "out", _written(written, found))
    for ids_in, ids_out in zip(given.parts(), came.parts(), strict=True):
        found.add_part(set(ids_in), Counter(ids_out))
    return found


def _written(directory: Path, found: Audit) -> Iterator[str]:
    """Yield the ids of the output, and count what became of the rows on the way."""
    for batch in rows_of(directory, [ID, ERROR_CODE, RETRYABLE, _FINISH_REASON]):
        columns = [batch.column(name).to_pylist() for name in (ID, ERROR_CODE, RETRYABLE, _FINISH_REASON)]
        for row, code, retryable, finish_reason in zip(*columns, strict=True):
            if code:
                found.errors[code] += 1
                found.retryable += retryable
            else:
                found.finish_reasons[finish_reason] += 1
            yield row
