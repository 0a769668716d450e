"""Failures of batches, beside the SDK's."""

from __future__ import annotations

from rubricrm.errors import RubricrmError


class InputInvalid(RubricrmError):
    """The input as a whole cannot be a batch: no such column, ids that repeat, no rows, a file that is damaged."""

    code = "INPUT_INVALID"
    exit_code = 2


class JobDiffers(RubricrmError):
    """The output holds another job: another input, model, prompt or options."""

    code = "JOB_DIFFERS"
    exit_code = 2


class JobBusy(RubricrmError):
    """Another process works in the same output."""

    code = "JOB_BUSY"
    exit_code = 2


class JobStopped(RubricrmError):
    """The job ended before its end, and can go on: the model could not be opened or reached, or a worker died."""

    code = "JOB_STOPPED"
    exit_code = 1


class JobIncomplete(RubricrmError):
    """The audit found ids that are missing, repeated or foreign in what was written."""

    code = "JOB_INCOMPLETE"
    exit_code = 1


class EngineFailed(RubricrmError):
    """An engine inside Ray failed at one row; its message is appended."""

    code = "ENGINE_FAILED"
    exit_code = 1
    retryable = True
