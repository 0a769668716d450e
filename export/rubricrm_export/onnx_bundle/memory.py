"""How much memory an export takes, estimated before it begins: being killed after half an hour helps nobody."""

from __future__ import annotations

import math

from rubricrm.runtime.byte_size import byte_text
from rubricrm.runtime.machine import total_memory_bytes

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.errors import ExportFailed
from rubricrm_export.onnx_bundle.plan import ExportPlan

_FLOAT = 4
# Tokens whose activations are held at once, by calibration and by the reference of the measurement.
_TOKENS = 8192
# Interpreter, libraries and what a runtime keeps beside its weights.
_BASE_BYTES = 400 << 20


def check_memory(plan: ExportPlan, architecture: Architecture, *, is_measured: bool = True) -> None:
    """Refuse an export that this machine's memory cannot hold.

    Raises:
        ExportFailed: The estimate exceeds what this process may use.
    """
    needed, total = required_memory(plan, architecture, is_measured=is_measured), total_memory_bytes()
    if total is not None and needed > total:
        raise ExportFailed(
            f"the export needs about {byte_text(needed)} of memory, this process may use {byte_text(total)}. "
            f"Nothing was written. Export on a machine with more memory{_alternative(plan)}."
        )


def required_memory(plan: ExportPlan, architecture: Architecture, *, is_measured: bool = True) -> int:
    """Estimate the peak of memory that no file backs, in bytes.

    Float exports stream. A quantized bundle is opened to be measured, where that is done: its weights are packed again
    by the runtime, and the output head is held as floats. Calibration holds a layer three times over (weights, rounded,
    dequantized), four square matrices of the widest inputs, and activations. (Measured at the 4B shape: 5.9 GB by
    round-to-nearest, where the estimate is 6.4.)
    """
    if not plan.scheme.is_quantized:
        return _BASE_BYTES
    hidden, inner = architecture.hidden_size, architecture.intermediate_size
    activations = _FLOAT * _TOKENS * (6 * hidden + 3 * inner)
    head = _FLOAT * architecture.vocab_size * hidden
    measuring = 2 * plan.weight_bytes + head + _FLOAT * _TOKENS * hidden if is_measured else 0
    if not plan.scheme.needs_calibration:
        return _BASE_BYTES + measuring
    shapes = architecture.tensor_shapes(tied=True).items()
    layer = sum(math.prod(shape) for name, shape in shapes if name.startswith("model.layers.0."))
    calibrating = 3 * _FLOAT * layer + 4 * _FLOAT * max(hidden, inner) ** 2 + activations
    return _BASE_BYTES + max(measuring, calibrating)


def _alternative(plan: ExportPlan) -> str:
    return ", or with --method rtn" if plan.scheme.rounds_by_calibration and plan.scheme.activations == "none" else ""
