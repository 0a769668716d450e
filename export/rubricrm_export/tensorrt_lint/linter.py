"""The linter: applies every rule to a directory, our own before it gets its name, or anybody's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rubricrm_export.errors import CheckpointInvalid
from rubricrm_export.tensorrt.support import require_known
from rubricrm_export.tensorrt_lint.config_rules import CONFIG_RULES, FORM_RULES
from rubricrm_export.tensorrt_lint.file_rules import FILE_RULES
from rubricrm_export.tensorrt_lint.findings import Finding, Inspected, Rule
from rubricrm_export.tensorrt_lint.tensor_rules import TENSOR_RULES


def inspect_directory(path: Path, reader: str, device: str | None = None) -> list[Finding]:
    """Return what is wrong with a directory, errors first. Reads all floats, FP8 weights and scales.

    Weights in another form than ModelOpt's and TensorRT-LLM 1.2's are not judged, which is said by a finding that is no
    error; what lies beside them is.

    Args:
        path: A directory with config.json and safetensors.
        reader: Who is to read it.
        device: The GPU it is for; None: any.

    Raises:
        OptionInvalid: There is no such reader or device.
        CheckpointInvalid: There are no weights, or no config.json that can be read.
    """
    require_known(reader, device)
    found = Inspected.open(path, reader, device)
    with np.errstate(invalid="ignore"):  # numpy warns of a NaN that it converts; here it is a finding
        findings = [finding for rule in _rules(found) for finding in rule(found)]
    return sorted(findings, key=lambda finding: not finding.is_error)


def _rules(found: Inspected) -> tuple[Rule, ...]:
    rules = (*FILE_RULES, *FORM_RULES)
    if found.damaged or found.unknown_form is not None or not found.has_readers_form:
        return rules
    return (*rules, *CONFIG_RULES, *TENSOR_RULES)


def require_sound(path: Path, reader: str, device: str | None = None, *, output: Path | None = None) -> list[Finding]:
    """Return the warnings of a directory.

    Args:
        path: A directory with config.json and safetensors.
        reader: Who is to read it.
        device: The GPU it is for; None: any.
        output: The name that the directory is about to get, which errors and warnings tell; None: it has it.

    Raises:
        CheckpointInvalid: It has a fault; all of them are named.
    """
    name = f"{output or path}"
    findings = [
        replace(finding, where=finding.where.replace(f"{path}", name))
        for finding in inspect_directory(path, reader, device)
    ]
    errors = [str(finding) for finding in findings if finding.is_error]
    if errors:
        listed = "\n".join(f"  {error}" for error in errors)
        raise CheckpointInvalid(f"{name}: {count_faults(errors)} for --for {reader}:\n{listed}")
    return findings


def count_faults(errors: Sequence[object]) -> str:
    """Return "1 fault" or "2 faults"."""
    return f"{len(errors)} fault{'' if len(errors) == 1 else 's'}"
