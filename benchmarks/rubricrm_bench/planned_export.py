"""The exports that a device can run, each with its whole command line and the bytes that its numbers take there.

What can be run is not said here: rows for TensorRT come from the exporter's own table. Those for ONNX Runtime are the
usual ones of `rubricrm export onnx`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rubricrm_export.tensorrt.devices import DEVICES, ONNX_RUNTIME, DeviceFacts
from rubricrm_export.tensorrt.option_values import READERS
from rubricrm_export.tensorrt.support import GROUP_SIZE, Format, formats_of, width_refusal

# A weight on the device, scales included: one of an output or a matrix is too little to count.
_FLOAT_BYTES = 2.0
_WEIGHT_BYTES = {"fp16": _FLOAT_BYTES, "fp8": 1.0, "int8": 1.0, "int4": (4 + 16 / GROUP_SIZE) / 8}
_KV_BYTES = {"model": _FLOAT_BYTES, "fp8": 1.0, "int8": 1.0}
# Readers that hold a tied head a second time, beside the embedding.
_COPIES_HEAD = ("edge-llm", "tensorrt-llm-1.2")


@dataclass(frozen=True)
class PlannedExport:
    """An export.

    Attributes:
        reader: What runs it: a reader of `rubricrm export tensorrt`, or "onnxruntime".
        options: Of its command line, without checkpoint and output.
        name: For its output.
        layer_bytes: A weight of the layers.
        embedding_bytes: A weight of the embedding.
        head_bytes: A weight of the output head; None: a tied head is the embedding, another one is stored alike.
        kv_bytes: A key or value.
    """

    reader: str
    options: tuple[str, ...]
    name: str
    layer_bytes: float
    embedding_bytes: float
    head_bytes: float | None
    kv_bytes: float

    def command(self, checkpoint: str, model: str, context: int, slots: int) -> str:
        """Return the command line that writes it."""
        words = ["rubricrm", "export", "onnx" if self.reader == ONNX_RUNTIME else "tensorrt", checkpoint]
        words += ["-o", f"{model}-{self.name}", *self.options]
        if self.reader != ONNX_RUNTIME:
            words += ["--max-batch-size", str(slots), "--max-seq-len", str(context)]
        return shlex.join(words)


def planned_exports(device: DeviceFacts, shapes: Mapping[str, tuple[int, int]]) -> list[PlannedExport]:
    """Return the exports that run on a device, reader by reader.

    BF16 is left out where it takes what FP16 takes.

    Args:
        device: One of the table, or another one: then everything is listed, and no command names a device.
        shapes: Out and in features of the matrices of a layer, which a format must be able to hold.
    """
    known = device.name if device.name in DEVICES else None
    tensorrt = (
        export
        for reader in READERS
        if reader in device.readers
        for row, kv in formats_of(reader, known)
        if row.weights != "bf16" and width_refusal(row, shapes) is None
        for export in _of_format(row, kv, known)
    )
    return [*tensorrt, *(_onnx(device, known) if ONNX_RUNTIME in device.readers else ())]


def _of_format(row: Format, kv: str, device: str | None) -> Iterator[PlannedExport]:
    for head in row.heads:
        given = {"for": row.reader, "weights": row.weights, "kv": kv, "head": head, "device": device}
        options = [f"--{key} {value}" for key, value in given.items() if value not in (None, "model")]
        parts = [
            row.reader,
            row.weights,
            *(f"kv-{kv}" if kv != "model" else "",),
            f"head-{head}" if head != "model" else "",
        ]
        is_copied = head != "model" or row.reader in _COPIES_HEAD
        yield PlannedExport(
            row.reader,
            tuple(" ".join(options).split()),
            "-".join(part for part in parts if part),
            _WEIGHT_BYTES[row.weights],
            _FLOAT_BYTES,
            _WEIGHT_BYTES.get(head, _FLOAT_BYTES) if is_copied else None,
            _KV_BYTES[kv],
        )


def _onnx(device: DeviceFacts, known: str | None) -> Iterator[PlannedExport]:
    # A device that is not in the table may be a CPU.
    for target in ("cuda",) if known else ("cuda", "cpu"):
        float_bytes = 4.0 if target == "cpu" else 2.0  # a CPU computes in float32, whatever is stored
        scale, zero_point = 8 * float_bytes, 4
        int8 = 1 + float_bytes / 32
        int4, int4_head = ((4 + (scale + zero_point) / block) / 8 for block in (128, 32))
        rows = [
            ("--weights fp16", "fp16", float_bytes, float_bytes, _FLOAT_BYTES),
            ("--weights int8", "int8", int8, int8, _FLOAT_BYTES),
            ("--weights int4 --head model", "int4-head-model", int4, float_bytes, _FLOAT_BYTES),
            ("--weights int4", "int4", int4, int4_head, _FLOAT_BYTES),
        ]
        if target == "cuda" and device.has_fp8:
            rows.append(("--weights fp8 --activations fp8 --kv fp8", "fp8", 1 + 4 / 128, float_bytes, 1.0))
        for options, name, layers, tables, kv in rows:
            words = ("--target", target, *options.split())
            yield PlannedExport(ONNX_RUNTIME, words, f"{target}-{name}", layers, tables, None, kv)
