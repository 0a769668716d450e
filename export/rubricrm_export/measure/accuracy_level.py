"""Which products round their activations to 8 bits: chosen by what it costs, measured.

MatMulNBits with accuracy_level 4 rounds its inputs to 8 bits per block, which makes it 2 to 3 times faster at one row
with 4 bits per weight, and costs most models a few thousandths of a nat. Models with massive activations lose more:
onnxruntime's issue 29849 shows Qwen3 choosing other tokens. All products begin at level 4. Where that loses too much,
the products whose inputs suffer most are given exact inputs, as few as are needed.

Products of 8 bits stay at level 4: with exact inputs the kernel dequantizes the whole matrix for every token, 150 times
slower. A smaller block, in which inputs are rounded too, is what lowers their loss.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import GraphVariant

from rubricrm_export.calibrate.float_model import FloatModel
from rubricrm_export.calibrate.layer_tensors import GROUPS, INPUT_NORM, Group
from rubricrm_export.calibrate.token_text import TokenText
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.graph.block_storage import EXACT_INPUTS, INT8_ACTIVATIONS
from rubricrm_export.graph.node_names import HEAD, attention_name, mlp_name, product_node, projections_name
from rubricrm_export.measure.logit_source import BundleLogits, Logits, LogitSource
from rubricrm_export.measure.quality import measure

logger = logging.getLogger(__name__)

Float = NDArray[np.float32]

# What may be lost, in nats per token: about what INT8 weights cost, or this part of what the bundle loses anyway.
_TOLERANCE, _SHARE = 0.005, 0.1
_TOKENS = 512


def choose_accuracy_levels(
    bundle: Bundle,
    checkpoint: Checkpoint,
    text: TokenText,
    kl: float,
    *,
    threads: int,
    on_progress: Callable[[int, int], None],
) -> int:
    """Lower the accuracy level of as few products as the tolerance needs, in the bundle's graph file.

    Costs two runs of the bundle on 512 tokens; where they differ a run of the float model too, and a few more runs.

    Args:
        bundle: Its graph file is replaced where levels change; its manifest must then be written again.
        checkpoint: The float model.
        text: The first tokens of it are run.
        kl: What the bundle loses with all products at level 4.
        threads: Threads to compute with.
        on_progress: Gets what is done of all that may have to be done.

    Returns:
        How many products were given exact inputs.
    """
    path = bundle.file(bundle.manifest.graph.file)
    graph = onnx.load(path, load_external_data=False)
    candidates = [node for node in graph.graph.node if _is_candidate(node)]
    names = [node.name for node in candidates]
    if not names:
        return 0
    text = _shortened(text)
    steps = 3 + len(names).bit_length()

    def contents(exact: Collection[str]) -> bytes:
        for node in candidates:
            _set_level(node, EXACT_INPUTS if node.name in exact else INT8_ACTIVATIONS)
        return bytes(graph.SerializeToString())

    def logits(exact: Collection[str]) -> BundleLogits:
        return BundleLogits(bundle, text, threads=threads, variant=GraphVariant(path.name, contents(exact)))

    on_progress(0, steps)
    reference = _Kept(logits(names))
    num_tokens = bundle.manifest.tokenizer.num_tokens

    def is_enough(exact: Collection[str]) -> bool:
        return measure(reference, logits(exact), text, num_tokens).kl <= max(_TOLERANCE, _SHARE * kl)

    on_progress(1, steps)
    if is_enough(()):
        on_progress(steps, steps)
        return 0
    on_progress(2, steps)
    ranked = sorted(names, key=_noises(checkpoint, text, threads).__getitem__, reverse=True)
    # The loss falls with every product that is given exact inputs: bisect for the fewest.
    low, high = 0, len(ranked)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(ranked[:middle]) else (middle, high)
        on_progress(steps - (high - low).bit_length(), steps)
    path.write_bytes(contents(ranked[:high]))
    on_progress(steps, steps)
    logger.info("%d of %d products are given exact inputs: %s", high, len(names), ", ".join(ranked[:high]))
    return high


class _Kept:
    """A source whose rows are computed once."""

    def __init__(self, source: LogitSource) -> None:
        self._rows = list(source.rows())

    def rows(self) -> Iterator[Logits]:
        return iter(self._rows)


def _shortened(text: TokenText) -> TokenText:
    first = text.sequences[0][: max(2, _TOKENS - len(text.prefix))]
    return TokenText(text.name, text.prefix, (first,))


def _is_candidate(node: onnx.NodeProto) -> bool:
    return node.op_type == "MatMulNBits" and any(a.name == "bits" and a.i == 4 for a in node.attribute)


def _set_level(node: onnx.NodeProto, level: int) -> None:
    for attribute in node.attribute:
        if attribute.name == "accuracy_level":
            attribute.i = level


def _noises(checkpoint: Checkpoint, text: TokenText, threads: int) -> dict[str, float]:
    """Return how much each product's inputs lose by 8 bits, by the names of the graph's nodes."""
    model = FloatModel(checkpoint, text, threads=threads)
    residual = model.embed()
    noises: dict[str, float] = {}
    for layer in range(model.architecture.num_layers):
        weights = model.layer_weights(layer)
        inputs, _, residual = model.traced_layer(residual, weights)
        for group, x in zip(GROUPS, inputs, strict=True):
            noises |= dict.fromkeys(_node_names(layer, group), _noise(x))
    return noises | {product_node(HEAD): _noise(model.final_norm(residual))}


def _node_names(layer: int, group: Group) -> list[str]:
    """Return the products of a layer that have the same inputs: an attention's are one."""
    part = attention_name(layer) if group.matrices[0].startswith("self_attn.") else mlp_name(layer)
    names = [name.split(".")[1].removesuffix("_proj") for name in group.matrices]
    products = [names] if group.before == INPUT_NORM else [[name] for name in names]
    return [product_node(projections_name(part, joined)) for joined in products]


def _noise(x: Float) -> float:
    """Relative error of inputs [tokens, in_features] rounded to 8 bits, one scale per block of 32."""
    starts = np.arange(0, x.shape[1], 32)
    steps = np.maximum.reduceat(np.abs(x), starts, 1) / 127
    # A rounding error is uniform within a step: its mean square is a twelfth of the step's.
    widths = np.diff(starts, append=x.shape[1])
    return float(np.sqrt((widths * np.square(steps)).sum() / 12 / max(np.square(x).sum(), 1e-30)))
