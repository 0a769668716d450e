"""The linter: applies every rule to a directory, our own before it gets its name, or anybody's."""

from __future__ import annotations

from pathlib import Path

from rubricrm.errors import OptionInvalid

from rubricrm_export.errors import CheckpointInvalid
from rubricrm_export.tensorrt.vocabulary import DEVICES, READERS
from rubricrm_export.tensorrt_lint.config_rules import CONFIG_RULES
from rubricrm_export.tensorrt_lint.findings import Finding, Inspected
from rubricrm_export.tensorrt_lint.tensor_rules import TENSOR_RULES


def inspect_directory(path: Path, reader: str, device: str | None = None) -> list[Finding]:
    """Return what is wrong with a directory, errors first. Reads all FP8 weights and all scales.

    Args:
        path: A directory in ModelOpt's form, or in that of TensorRT-LLM 1.2.
        reader: Who is to read it.
        device: The GPU it is for; None: any.

    Raises:
        OptionInvalid: There is no such reader or device.
        CheckpointInvalid: A file is missing or cannot be read.
    """
    if reader not in READERS:
        raise OptionInvalid(f"for must be one of {', '.join(READERS)}, got {reader!r}.")
    if device is not None and device not in DEVICES:
        raise OptionInvalid(f"device must be one of {', '.join(DEVICES)}, got {device!r}.")
    found = Inspected.open(path, reader, device)
    findings = [finding for rule in (*CONFIG_RULES, *TENSOR_RULES) for finding in rule(found)]
    return sorted(findings, key=lambda finding: not finding.is_error)


def require_sound(path: Path, reader: str, device: str | None = None) -> list[Finding]:
    """Return the warnings of a directory.

    Raises:
        CheckpointInvalid: It has a fault; all of them are named.
    """
    findings = inspect_directory(path, reader, device)
    errors = [str(finding) for finding in findings if finding.is_error]
    if errors:
        listed = "\n".join(f"  {error}" for error in errors)
        raise CheckpointInvalid(f"{path}: {len(errors)} faults for --for {reader}:\n{listed}")
    return findings
