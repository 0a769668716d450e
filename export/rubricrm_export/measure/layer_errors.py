"""Which layers lose most: the residual stream after each layer, beside that of a reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import onnx
from numpy.typing import NDArray
from rubricrm.errors import BundleInvalid, OptionInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.session import GraphVariant, Session, choose
from rubricrm.runtime.slot import Slot
from rubricrm.runtime.step_inputs import STEP_INPUTS

from rubricrm_export.calibrate.float_model import FloatModel, require_finite
from rubricrm_export.calibrate.token_text import TokenText, check_context
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.graph.node_names import input_norm_name, norm_node, residual_values
from rubricrm_export.measure.logit_source import BLOCK_ROWS, blocks

Residual = NDArray[np.float32]

# All layers of one model are held: 390 MB for a 4B model.
_MAX_TOKENS = 1024


@dataclass(frozen=True)
class LayerError:
    """How far a layer's output is from the reference's, as a share of the reference's norm.

    Attributes:
        layer: Its number.
        error: Root of the mean over tokens of |candidate - reference|^2 / |reference|^2, after this layer, each model
            on its own inputs: what earlier layers lost is in it.
        added: What this layer added to it. Errors that are independent add in squares, so it is
            sqrt(error^2 - error before^2); 0 where the error shrank. A layer that shrinks the stream, as the last one
            of many models does, raises the share of what it was given, and so seems to add more.
    """

    layer: int
    error: float
    added: float


def layer_errors(
    candidate: Bundle,
    reference: Bundle | Checkpoint,
    text: TokenText,
    *,
    device: str = "cpu",
    reference_device: str = "cpu",
    threads: int | None = None,
) -> list[LayerError]:
    """Compare two models layer by layer, on at most 1,024 tokens of a text. One of them is open at a time.

    A token weighs as any other: the few whose activations are a thousand times larger would hide the rest.

    Args:
        candidate: The model in question.
        reference: The model that is right.
        text: Ids of the tokenizer of both.
        device: Where to run the candidate.
        reference_device: Where to run the reference.
        threads: Threads to compute with; None takes the usable cores.

    Raises:
        OptionInvalid: The models have other shapes.
        BundleInvalid: A graph does not name its layers' outputs.
        RubricrmError: As `Session.run` and `FloatModel`.
    """
    _require_same_shape(candidate, reference)
    text = _shortened(text, _MAX_TOKENS)
    found = _bundle_residuals(candidate, text, device, threads)
    expected: Iterable[Residual]
    if isinstance(reference, Bundle):
        expected = _bundle_residuals(reference, text, reference_device, threads)
    else:
        expected = _checkpoint_residuals(reference, text, threads)
    errors = [_relative_error(*pair) for pair in zip(found, expected, strict=True)]
    return [
        LayerError(layer, after, max(after**2 - before**2, 0.0) ** 0.5)
        for layer, (before, after) in enumerate(pairwise(errors))
    ]


def worst_layers(errors: Sequence[LayerError], count: int = 3) -> list[int]:
    """Return the layers that added most, the worst first; those that added nothing are not among them."""
    ordered = sorted(errors, key=lambda error: (-error.added, error.layer))
    return [error.layer for error in ordered[:count] if error.added > 0]


def _relative_error(found: Residual, expected: Residual) -> float:
    distance = np.square(found.astype(np.float64) - expected).sum(axis=1)
    norm = np.square(expected, dtype=np.float64).sum(axis=1)
    return float(np.sqrt(np.mean(distance / np.maximum(norm, np.finfo(np.float64).tiny))))


def _require_same_shape(candidate: Bundle, reference: Bundle | Checkpoint) -> None:
    facts = candidate.manifest.model
    other = reference.manifest.model if isinstance(reference, Bundle) else reference.architecture
    shapes = [(model.num_layers, model.hidden_size) for model in (facts, other)]
    if shapes[0] != shapes[1]:
        (layers, width), (other_layers, other_width) = shapes
        raise OptionInvalid(
            f"{candidate.path} has {layers} layers of width {width}, {reference.path} {other_layers} of {other_width}: "
            "they cannot be compared layer by layer. Give a reference of the same model."
        )


def _shortened(text: TokenText, num_tokens: int) -> TokenText:
    kept, left = [], num_tokens
    for sequence in text.sequences:
        if left <= 0:
            break
        kept.append(sequence[:left])
        left -= len(sequence)
    return replace(text, sequences=tuple(kept))


def _checkpoint_residuals(checkpoint: Checkpoint, text: TokenText, threads: int | None) -> Iterator[Residual]:
    model = FloatModel(checkpoint, text, threads=threads or usable_cores())
    residual = model.embed()
    yield residual[len(text.prefix) :]
    for layer in range(checkpoint.architecture.num_layers):
        residual = model.layer(residual, model.layer_weights(layer))
        require_finite(residual, layer)
        yield residual[len(text.prefix) :]


def _bundle_residuals(bundle: Bundle, text: TokenText, device: str, threads: int | None) -> Residual:
    """Return [1 + layers, tokens, hidden_size]: the embedded tokens, and the residual stream after each layer."""
    facts = bundle.manifest.model
    length = check_context(text, facts.context_length, str(bundle.path))
    outputs = [f"residual.{number}" for number in range(1 + facts.num_layers)]
    graph = choose(bundle, device).graph
    variant = _with_residuals(bundle, graph.file, outputs)
    batch = STEP_INPUTS[graph.kv_update].batch
    residuals: Residual = np.empty((len(outputs), sum(map(len, text.sequences)), facts.hidden_size), np.float32)
    session = Session(bundle, device=device, threads=threads, max_rows=BLOCK_ROWS, variant=variant)
    try:
        slot = session.new_slot(length)
        for ids in blocks(text.prefix):
            session.run(slot, ids)
        start = 0
        for sequence in text.sequences:
            slot.cache.rewind(len(text.prefix))
            for ids in blocks(sequence):
                _bind_outputs(slot, outputs, residuals[:, start : start + len(ids)], batch)
                session.run(slot, ids)
                start += len(ids)
    finally:
        session.close()
    return residuals


def _bind_outputs(slot: Slot, names: Sequence[str], arrays: Residual, batch: tuple[int, ...]) -> None:
    for name, array in zip(names, arrays, strict=True):
        slot.arena.binding.bind_output(name, "cpu", 0, np.float32, (*batch, *array.shape), array.ctypes.data)


def _with_residuals(bundle: Bundle, file: str, outputs: Sequence[str]) -> GraphVariant:
    """Return one of the bundle's graphs with the residual stream as float32 outputs of these names."""
    path = bundle.file(file)
    model = onnx.load(path, load_external_data=False)
    nodes = {node.name: node for node in model.graph.node}
    first_norm = norm_node(input_norm_name(0))
    embedded = nodes[first_norm].input[0] if first_norm in nodes else ""
    values = [embedded, *residual_values(bundle.manifest.model.num_layers)]
    known = {name for node in model.graph.node for name in node.output}
    missing = [value for value in values if value not in known]
    if missing:
        name = missing[0] or first_norm
        raise BundleInvalid(
            f'{path}: has nothing named "{name}", so its layers cannot be compared. Export the bundle with this '
            "version of `rubricrm export onnx`, or leave the layers out."
        )
    for value, output in zip(values, outputs, strict=True):
        model.graph.node.append(onnx.helper.make_node("Cast", [value], [output], to=onnx.TensorProto.FLOAT))
        model.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    return GraphVariant(file, bytes(model.SerializeToString()))
