"""What a batch ended with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rubricrm_batch.audit import Audit
from rubricrm_batch.job import Job
from rubricrm_batch.publishing import told

COMPLETE = 0
NOT_COMPLETE = 1
WITH_FAILED_ROWS = 3


@dataclass(frozen=True)
class BatchReport:
    """The end of a batch.

    Attributes:
        output: The directory of Parquet files.
        audit: Ids in against ids out.
        attempts: How often rows that failed were tried, all together.
        seconds: Of this run.
    """

    output: Path
    audit: Audit
    attempts: int
    seconds: float

    @classmethod
    def of(cls, job: Job, audit: Audit, attempts: int, seconds: float) -> Self:
        """Return the report of a job."""
        return cls(job.rubrics, audit, attempts, seconds)

    @property
    def exit_code(self) -> int:
        """Return 0 for a complete job, 3 for a complete one with rows that failed, 1 for one that is not complete."""
        if not self.audit.is_whole:
            return NOT_COMPLETE
        return WITH_FAILED_ROWS if self.audit.failed else COMPLETE

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        found = self.audit
        return {
            "output": str(self.output),
            "complete": found.is_whole,
            "rows": found.rows,
            "failed": found.failed,
            "retryable": found.retryable,
            "errors": dict(found.errors.most_common()),
            "finish_reasons": dict(found.finish_reasons.most_common()),
            "missing": found.missing,
            "repeated": found.repeated,
            "foreign": found.foreign,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
        }

    def to_text(self) -> str:
        """Return lines for people."""
        found = self.audit
        lines = [f"{self.output}: {told(found)}; {self.seconds:.0f} s."]
        if cut := found.finish_reasons.total() - found.finish_reasons["stop"]:
            reasons = ", ".join(f"{name} {count}" for name, count in found.finish_reasons.items() if name != "stop")
            lines.append(f"{cut} rubrics are cut: {reasons}.")
        if found.failed:
            errors = ", ".join(f"{code} {count}" for code, count in found.errors.most_common())
            lines.append(f"{found.failed} rows failed: {errors}.")
        if found.retryable:
            lines.append(f"{found.retryable} of them may succeed: the same command with --retry-failed.")
        return "\n".join(lines)
