"""Writes model.onnx and its data file for a scheme of quantization."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir
from rubricrm.runtime.manifest import FLOAT_WEIGHTS
from rubricrm.runtime.path_text import utf8_path

from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.errors import ExportFailed
from rubricrm_export.graph import onnxruntime_form, standard_form
from rubricrm_export.graph.builder import CONTRIB, DecoderBuilder, MatrixStorage, TableStorage
from rubricrm_export.graph.data_file import save_graph
from rubricrm_export.graph.decoder import build_decoder
from rubricrm_export.graph.decoder_form import DecoderForm
from rubricrm_export.graph.float_storage import FloatStorage
from rubricrm_export.graph.kv_storage import KVScales, KVStorage
from rubricrm_export.graph.onnxruntime_form import OnnxRuntimeForm
from rubricrm_export.graph.rounded_weights import WeightSource
from rubricrm_export.graph.standard_form import StandardForm
from rubricrm_export.graph.storage_table import head_storage, projection_storage
from rubricrm_export.quantize.scheme import Scheme

GRAPH_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"

TYPE_NAMES = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.INT8: "int8",
    ir.DataType.FLOAT8E4M3FN: "float8e4m3fn",
}
FLOAT_TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

# Operator domains of the graphs by how their KV cache grows, with their versions, as a manifest names them.
DOMAINS = {"shared": {"ai.onnx": onnxruntime_form.OPSET, CONTRIB: 1}, "scatter": {"ai.onnx": standard_form.OPSET}}
_KV_TYPES = {"int8": ir.DataType.INT8, "int8-tensor": ir.DataType.INT8, "fp8": ir.DataType.FLOAT8E4M3FN}


def computed_type(scheme: Scheme) -> ir.DataType:
    """Return the element type of the activations: the CPU provider has no 16-bit kernels for its graph."""
    return ir.DataType.FLOAT if scheme.target == "cpu" else FLOAT_TYPES[scheme.float_weights]


def kv_type(scheme: Scheme) -> ir.DataType:
    """Return the element type of the KV cache."""
    return _KV_TYPES.get(scheme.kv, computed_type(scheme))


def kv_storage(scheme: Scheme, scales: KVScales | None) -> KVStorage:
    """Return how a scheme stores keys and values; `scales` are those that calibration found for it."""
    return KVStorage(kv_type(scheme), None if scheme.kv == "model" else scales)


def author_graph(checkpoint: Checkpoint, scheme: Scheme, weights: WeightSource, kv: KVStorage) -> ir.Model:
    """Return the graph. No weight is read or rounded before it is saved."""
    architecture, is_standard = checkpoint.architecture, scheme.target == "tensorrt"
    floats = FloatStorage(
        checkpoint,
        FLOAT_TYPES[scheme.float_weights],
        is_standard=is_standard,
    )
    projections: MatrixStorage = floats if scheme.weights in FLOAT_WEIGHTS else projection_storage(scheme, weights)
    head: TableStorage = floats if scheme.head_grid is None else head_storage(scheme.head_grid, weights)
    builder = DecoderBuilder(computed_type(scheme), projections, head, weights.norm)
    form: DecoderForm = StandardForm(architecture, kv.dtype) if is_standard else OnnxRuntimeForm(architecture, kv)
    return build_decoder(builder, architecture, form, tied=checkpoint.tied)


def write_graph(
    checkpoint: Checkpoint,
    scheme: Scheme,
    weights: WeightSource,
    kv: KVStorage,
    directory: Path,
    on_progress: Callable[[int], None],
) -> None:
    """Write the graph, making its weights on the way.

    Args:
        checkpoint: Its sizes, and the weights that stay floats.
        scheme: What is stored in how many bits.
        weights: The quantized matrices, and the norms.
        kv: How keys and values are stored.
        directory: Where the two files go.
        on_progress: Gets the number of bytes written so far.

    Raises:
        CheckpointInvalid: A weight is not finite.
        CheckpointUnsupported: A weight cannot be stored in the type that was asked for.
        ExportFailed: The graph does not pass the ONNX checker.
    """
    model = author_graph(checkpoint, scheme, weights, kv)
    try:
        save_graph(model, directory / GRAPH_FILE, DATA_FILE, on_progress)
    except ir.serde.SerdeError as error:  # around whatever a small weight's conversion raised
        raise _root_cause(error) from error
    try:
        with _utf8_directory(directory) as readable:
            onnx.checker.check_model(readable / GRAPH_FILE)
    except onnx.checker.ValidationError as error:
        raise ExportFailed(f"the graph does not pass the ONNX checker: {error}. Please report this.") from error


@contextmanager
def _utf8_directory(directory: Path) -> Iterator[Path]:
    """Yield a directory under a name in UTF-8, as the checker needs it: its own, or that of an open descriptor."""
    name = utf8_path(directory)
    if name is not None:
        yield Path(name)
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _root_cause(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else _root_cause(error.__cause__)
