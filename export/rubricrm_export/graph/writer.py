"""Writes model.onnx and its data file for a scheme of quantization."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir
from rubricrm.runtime.data_layout import derive_data
from rubricrm.runtime.manifest import FLOAT_WEIGHTS
from rubricrm.runtime.path_text import utf8_path

from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.errors import ExportFailed
from rubricrm_export.graph import onnxruntime_form, standard_form
from rubricrm_export.graph.block_storage import EXACT_INPUTS, BlockStorage
from rubricrm_export.graph.builder import CONTRIB, KERNELS, DecoderBuilder, MatrixStorage, TableStorage
from rubricrm_export.graph.data_file import save_graph, save_references, save_shared
from rubricrm_export.graph.decoder import build_decoder
from rubricrm_export.graph.decoder_form import DecoderForm
from rubricrm_export.graph.float_storage import FloatStorage
from rubricrm_export.graph.kv_storage import KVScales, KVStorage
from rubricrm_export.graph.onnxruntime_form import OnnxRuntimeForm
from rubricrm_export.graph.packed_storage import PackedStorage
from rubricrm_export.graph.paged_form import PagedForm
from rubricrm_export.graph.rounded_weights import WeightSource
from rubricrm_export.graph.standard_form import StandardForm
from rubricrm_export.graph.step_form import StepForm
from rubricrm_export.graph.storage_table import BLOCK_OPERATOR, head_storage, projection_storage
from rubricrm_export.quantize.scheme import Scheme

GRAPH_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
STEP_GRAPH_FILE = "model.step.onnx"
STEP_DATA_FILE = "model.step.onnx.data"

TYPE_NAMES = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.INT8: "int8",
    ir.DataType.FLOAT8E4M3FN: "float8e4m3fn",
}
FLOAT_TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

# Operator domains of the graphs by how their KV cache grows, with their versions, as a manifest names them.
DOMAINS = {
    "slots": {"ai.onnx": onnxruntime_form.OPSET, CONTRIB: 1, KERNELS: 1},
    "paged": {"ai.onnx": onnxruntime_form.OPSET, CONTRIB: 1},
    "shared": {"ai.onnx": onnxruntime_form.OPSET, CONTRIB: 1},
    "scatter": {"ai.onnx": standard_form.OPSET},
}
_KV_TYPES = {"int8": ir.DataType.INT8, "int8-tensor": ir.DataType.INT8, "fp8": ir.DataType.FLOAT8E4M3FN}


def computed_type(scheme: Scheme) -> ir.DataType:
    """Return the element type of the activations: the CPU provider has no 16-bit kernels for its graph."""
    return ir.DataType.FLOAT if scheme.target == "cpu" else FLOAT_TYPES[scheme.float_weights]


def kv_type(scheme: Scheme) -> ir.DataType:
    """Return the element type of the KV cache of model.onnx.

    A cache of float16 is the step graph's alone: ONNX Runtime has no CPU kernel for one, and would cast the whole cache
    to float32 and back in every layer of every step.
    """
    return _KV_TYPES.get(scheme.kv, computed_type(scheme))


def step_kv_type(scheme: Scheme) -> ir.DataType:
    """Return the element type of the KV cache of model.step.onnx."""
    return ir.DataType.FLOAT16 if scheme.kv == "float16" else kv_type(scheme)


def kv_storage(scheme: Scheme, scales: KVScales | None) -> KVStorage:
    """Return how model.onnx stores keys and values; `scales` are those that calibration found for the scheme."""
    return KVStorage(kv_type(scheme), scales if scheme.has_kv_scales else None)


def step_kv_storage(scheme: Scheme, scales: KVScales | None) -> KVStorage:
    """Return how model.step.onnx stores keys and values; as `kv_storage`."""
    return KVStorage(step_kv_type(scheme), kv_storage(scheme, scales).scales)


def author_graph(checkpoint: Checkpoint, scheme: Scheme, weights: WeightSource, kv: KVStorage) -> ir.Model:
    """Return the graph. No weight is read or rounded before it is saved."""
    architecture, is_standard = checkpoint.architecture, scheme.target == "tensorrt"
    projections, head = _storages(checkpoint, scheme, weights)
    builder = DecoderBuilder(computed_type(scheme), projections, head, weights.norm)
    form: DecoderForm = StandardForm(architecture, kv.dtype) if is_standard else OnnxRuntimeForm(architecture, kv)
    return build_decoder(builder, architecture, form, tied=checkpoint.tied)


def author_step_graph(
    checkpoint: Checkpoint, scheme: Scheme, weights: WeightSource, kv: KVStorage, exact: Collection[str]
) -> ir.Model:
    """Return the graph of steps over slots; as `author_graph`.

    For the target `cpu` products in blocks read packed weights; for `cuda` all weights are those of `author_graph`.

    Args:
        checkpoint: As `author_graph`.
        scheme: As `author_graph`.
        weights: As `author_graph`.
        kv: As `author_graph`.
        exact: Products, by the names of their nodes, whose inputs are not rounded to 8 bits.
    """
    projections, head = _storages(checkpoint, scheme, weights)
    form: DecoderForm = PagedForm(checkpoint.architecture, kv)
    if scheme.target == "cpu":
        form = StepForm(checkpoint.architecture, kv)
        if isinstance(projections, BlockStorage):
            projections = PackedStorage.of(projections, exact)
        if isinstance(head, BlockStorage) and is_packed(scheme):
            head = PackedStorage.of(head, exact)
    builder = DecoderBuilder(computed_type(scheme), projections, head, weights.norm)
    return build_decoder(builder, checkpoint.architecture, form, tied=checkpoint.tied)


def _storages(checkpoint: Checkpoint, scheme: Scheme, weights: WeightSource) -> tuple[MatrixStorage, TableStorage]:
    """Return how the layers' matrices are stored, and embedding and head."""
    floats = FloatStorage(checkpoint, FLOAT_TYPES[scheme.float_weights], is_standard=scheme.target == "tensorrt")
    projections: MatrixStorage = floats if scheme.weights in FLOAT_WEIGHTS else projection_storage(scheme, weights)
    head: TableStorage = floats if scheme.head_grid is None else head_storage(scheme.head_grid, weights)
    return projections, head


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
    _check(directory, GRAPH_FILE)


def write_step_graph(
    checkpoint: Checkpoint,
    scheme: Scheme,
    weights: WeightSource,
    kv: KVStorage,
    directory: Path,
    on_progress: Callable[[int, int], None],
) -> None:
    """Write the graph of steps beside model.onnx; where weights are packed, their data in place of the standard ones.

    Products have exact inputs where they have them in model.onnx.

    Args:
        checkpoint: As `write_graph`.
        scheme: As `write_graph`; `step_update` names an update for it.
        weights: As `write_graph`; only their names and shapes are asked for.
        kv: As `write_graph`.
        directory: Where model.onnx and its data lie.
        on_progress: Gets the bytes packed so far, and their number.

    Raises:
        ExportFailed: The graph does not pass the ONNX checker.
    """
    path, other = directory / STEP_GRAPH_FILE, directory / GRAPH_FILE
    model = author_step_graph(checkpoint, scheme, weights, kv, exact_products(other))
    if is_packed(scheme):
        save_references(model, path, STEP_DATA_FILE)
        derive_data(path, other, directory / STEP_DATA_FILE, on_progress)
        (directory / DATA_FILE).unlink()
    else:
        save_shared(model, path, other)
    _check(directory, STEP_GRAPH_FILE)


def step_update(scheme: Scheme) -> str | None:
    """Return the update of the KV cache of a scheme's graph of steps; None: it has none."""
    return {"cpu": "slots", "cuda": "paged"}.get(scheme.target)


def is_packed(scheme: Scheme) -> bool:
    """Whether a graph of steps reads weights in the packed layout: those in blocks, for the target `cpu`.

    Readers take the rows of a packed graph for exact (`Session.is_exact`), and draft. So nothing is packed where the
    layers' matrices are dequantized and multiplied by FusedMatMul, whose sums depend on the number of rows.
    """
    if scheme.target != "cpu" or scheme.weights in FLOAT_WEIGHTS:
        return False
    return scheme.operator == BLOCK_OPERATOR or (scheme.activations == "int8" and scheme.head_grid is not None)


def exact_products(graph: Path) -> set[str]:
    """Return the names of the products of a graph whose inputs are not rounded to 8 bits."""
    nodes = onnx.load(graph, load_external_data=False).graph.node
    return {node.name for node in nodes if _level(node) == EXACT_INPUTS}


def _level(node: onnx.NodeProto) -> int | None:
    return next((attribute.i for attribute in node.attribute if attribute.name == "accuracy_level"), None)


def _check(directory: Path, name: str) -> None:
    try:
        with _utf8_directory(directory) as readable:
            onnx.checker.check_model(readable / name)
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
