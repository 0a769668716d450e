"""What can fail while exporting, beside the SDK's own vocabulary: same message form, same base class."""

from __future__ import annotations

from rubricrm.errors import RubricrmError


class CheckpointInvalid(RubricrmError):
    """A checkpoint lacks a file or tensor, or one contradicts the configuration."""

    code = "CHECKPOINT_INVALID"
    exit_code = 2


class CheckpointUnsupported(RubricrmError):
    """The checkpoint is sound, but of an architecture or with a feature that cannot be exported."""

    code = "CHECKPOINT_UNSUPPORTED"
    exit_code = 2


class PromptTemplateInvalid(RubricrmError):
    """No usable prompt or chat template was found."""

    code = "PROMPT_TEMPLATE_INVALID"
    exit_code = 2


class ExportFailed(RubricrmError):
    """The bundle could not be made; nothing was left at the output."""

    code = "EXPORT_FAILED"
    exit_code = 1


class QualityTooLow(RubricrmError):
    """A bundle lost more than was allowed, or computes no numbers at all."""

    code = "QUALITY_TOO_LOW"
    exit_code = 1
