"""The checkpoint's float32 function, one layer in memory at a time, on ONNX Runtime.

Calibration runs on it, and it is the reference for models that are too large to open as floats. Activations of all
tokens of a text are flat matrices [num_tokens, width]; every stage takes its weights as arguments, so that calibration
can run quantized ones through the same graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rubricrm.errors import RuntimeFailed
from rubricrm.runtime.graph import open_graph

from rubricrm_export.calibrate.layer_tensors import (
    DOWN_PROJ,
    GATE_PROJ,
    INPUT_NORM,
    K_NORM,
    K_PROJ,
    O_PROJ,
    POST_NORM,
    Q_NORM,
    Q_PROJ,
    UP_PROJ,
    V_PROJ,
)
from rubricrm_export.calibrate.stage_graphs import (
    attention_stage,
    gate_stage,
    logits_stage,
    norm_stage,
    projection_stage,
)
from rubricrm_export.calibrate.token_text import TokenText, check_context
from rubricrm_export.checkpoint.architecture import EMBEDDING, LM_HEAD
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.errors import CheckpointInvalid
from rubricrm_export.quantize.rounding import read_rows

Float = NDArray[np.float32]
Weights = Mapping[str, Float]
Progress = Callable[[int, int], None]

# Rows of a matrix product at once: bounds the memory of what it makes. More are not faster.
_ROWS = 1024
# Rows of the head read at once.
_HEAD_BYTES = 128 << 20


@dataclass(frozen=True)
class Attended:
    """What attention gives for every token.

    Attributes:
        output: [num_tokens, num_heads * head_dim], what o_proj multiplies.
        keys: [num_tokens, kv_heads, head_dim], after their rotation.
        values: [num_tokens, kv_heads, head_dim].
    """

    output: Float
    keys: Float
    values: Float


class FloatModel:
    """A checkpoint on a text. Holds no weights between calls.

    At the 4B shape on two cores a layer takes 1.3 s for 1,000 tokens and 0.4 s to read.
    """

    def __init__(self, checkpoint: Checkpoint, text: TokenText, *, threads: int) -> None:
        """Make the graphs of the stages; a few milliseconds each.

        Args:
            checkpoint: Read while the model is in use.
            text: What it runs on.
            threads: Threads to compute with.

        Raises:
            OptionInvalid: A sequence does not fit the model's context.
            RuntimeMissing: No ONNX Runtime is installed.
        """
        positions = check_context(text, checkpoint.architecture.context_length, str(checkpoint.path))
        self.architecture = checkpoint.architecture
        self.text = text
        self._checkpoint = checkpoint
        graphs = {
            "norm": norm_stage(self.architecture),
            "attention": attention_stage(self.architecture, positions),
            "project": projection_stage(),
            "gate": gate_stage(),
            "logits": logits_stage(),
        }
        self._stages = {name: open_graph(graph, threads=threads) for name, graph in graphs.items()}

    def embed(self, rows: Callable[[NDArray[np.int64]], Float] | None = None) -> Float:
        """Return the embedded tokens [num_tokens, hidden_size], reading the rows that occur.

        Args:
            rows: Gives the rows of another table, such as a quantized one, for sorted ids; None: the checkpoint's.
        """
        unique, places = np.unique(np.array(self.text.token_ids, np.int64), return_inverse=True)
        table = (rows or self._embedding_rows)(unique)
        return np.ascontiguousarray(table[places])

    def _embedding_rows(self, ids: NDArray[np.int64]) -> Float:
        tensor = self._checkpoint.tensor(EMBEDDING)
        return np.concatenate([read_rows(tensor, int(token), int(token) + 1) for token in ids])

    def layer_weights(self, layer: int) -> dict[str, Float]:
        """Return the weights of a layer by their names within it, in float32."""
        prefix = f"model.layers.{layer}."
        names = [name for name in self.architecture.tensor_shapes(tied=True) if name.startswith(prefix)]
        tensors = {name.removeprefix(prefix): self._checkpoint.tensor(name) for name in names}
        return {name: read_rows(tensor, 0, tensor.shape[0]) for name, tensor in tensors.items()}

    def norm(self, x: Float, gain: Float) -> Float:
        """Return x [tokens, hidden_size] normalized and scaled."""
        return self._by_rows("norm", x.shape[1], x, gain=gain)

    def attention(self, normed: Float, weights: Weights) -> Attended:
        """Return what attention makes of each token of the text, from normalized inputs [num_tokens, hidden_size]."""
        sizes, count = self.architecture, len(normed)
        attended = Attended(
            np.empty((count, sizes.num_heads * sizes.head_dim), np.float32),
            *(np.empty((count, sizes.num_kv_heads, sizes.head_dim), np.float32) for _ in range(2)),
        )
        past = np.zeros((2, 1, sizes.num_kv_heads, 0, sizes.head_dim), np.float32)
        for number, (start, stop) in enumerate(self.text.spans):
            output, *present = self._attend(normed[start:stop], weights, past)
            attended.output[start:stop] = output[0]
            for part, kept in zip(present, (attended.keys, attended.values), strict=True):
                kept[start:stop] = part[0, :, past.shape[3] :].transpose(1, 0, 2)
            if number == 0 and self.text.prefix:
                past = np.stack(present)
        return attended

    def _attend(self, normed: Float, weights: Weights, past: Float) -> list[Float]:
        names = [Q_PROJ, K_PROJ, V_PROJ, *([Q_NORM, K_NORM] if self.architecture.qk_norm else [])]
        total = past.shape[3] + len(normed)
        feed = {name: weights[name] for name in names}
        feed |= {"x": normed[None], "attention_mask": np.ones((1, total), np.int64)}
        feed |= {f"past_key_values.0.{half}": part for half, part in zip(("key", "value"), past, strict=True)}
        return self._run("attention", feed)

    def project(self, x: Float, weight: Float, residual: Float) -> Float:
        """Return residual + x @ weight.T."""
        return self._by_rows("project", len(weight), x, residual, weight=weight)

    def gate(self, normed: Float, weights: Weights) -> Float:
        """Return silu(gate) * up [tokens, intermediate_size], what down_proj multiplies."""
        both = {name: weights[name] for name in (GATE_PROJ, UP_PROJ)}
        return self._by_rows("gate", len(both[GATE_PROJ]), normed, **both)

    def _by_rows(self, stage: str, width: int, x: Float, residual: Float | None = None, **weights: Float) -> Float:
        """Run a stage on rows of x (and of the residual), some at a time; the result is [rows, width]."""
        result = np.empty((len(x), width), np.float32)
        for start in range(0, len(x), _ROWS):
            rows = slice(start, start + _ROWS)
            feed = {"x": x[rows]} if residual is None else {"x": x[rows], "residual": residual[rows]}
            result[rows] = self._run(stage, feed | weights)[0]
        return result

    def _run(self, stage: str, feed: Mapping[str, NDArray[Any]]) -> list[Float]:
        try:
            outputs: list[Float] = self._stages[stage].run(None, feed)
        except Exception as error:  # its own classes have no common base
            raise RuntimeFailed(f"running the float model of {self._checkpoint.path} ({stage}): {error}") from error
        return outputs

    def traced_layer(self, residual: Float, weights: Weights) -> tuple[list[Float], Attended, Float]:
        """Return the inputs of each of `GROUPS`, what attention gave, and the residual stream after the layer."""
        normed = self.norm(residual, weights[INPUT_NORM])
        attended = self.attention(normed, weights)
        residual = self.project(attended.output, weights[O_PROJ], residual)
        post_normed = self.norm(residual, weights[POST_NORM])
        gated = self.gate(post_normed, weights)
        after = self.project(gated, weights[DOWN_PROJ], residual)
        return [normed, attended.output, post_normed, gated], attended, after

    def layer(self, residual: Float, weights: Weights) -> Float:
        """Return the residual stream [num_tokens, hidden_size] after a layer."""
        # Nothing of the attention is named: it is freed before the wider activations are made.
        residual = self.project(
            self.attention(self.norm(residual, weights[INPUT_NORM]), weights).output, weights[O_PROJ], residual
        )
        gated = self.gate(self.norm(residual, weights[POST_NORM]), weights)
        return self.project(gated, weights[DOWN_PROJ], residual)

    def final_residual(self, on_progress: Progress | None = None) -> Float:
        """Run all layers and return the residual stream after the last one.

        Raises:
            CheckpointInvalid: It is not finite.
        """
        residual = self.embed()
        for layer in range(self.architecture.num_layers):
            residual = self.layer(residual, self.layer_weights(layer))
            require_finite(residual, layer)
            if on_progress:
                on_progress(layer + 1, self.architecture.num_layers)
        return residual

    def final_norm(self, residual: Float) -> Float:
        """Return what the output head multiplies."""
        tensor = self._checkpoint.tensor("model.norm.weight")
        return self.norm(residual, read_rows(tensor, 0, tensor.shape[0]))

    def head_blocks(self) -> Iterator[tuple[int, Float]]:
        """Yield the output head in blocks of rows [vocabulary, hidden_size], each with the id of its first row."""
        tensor = self._checkpoint.tensor(EMBEDDING if self._checkpoint.tied else LM_HEAD)
        step = max(1, _HEAD_BYTES // (4 * tensor.shape[1]))
        for start in range(0, tensor.shape[0], step):
            yield start, read_rows(tensor, start, min(start + step, tensor.shape[0]))

    def head(self) -> Float:
        """Return the output head [vocabulary, hidden_size]: 1.6 GB for a 4B model, and little more while it is read."""
        head = np.empty((self.architecture.vocab_size, self.architecture.hidden_size), np.float32)
        for start, rows in self.head_blocks():
            head[start : start + len(rows)] = rows
        return head

    def logits(self, normed: Float, head: Float) -> Float:
        """Return the logits [rows, vocabulary] of rows of `final_norm`."""
        return self._by_rows("logits", len(head), normed, weight=head)


def require_finite(residual: Float, layer: int) -> None:
    """Refuse a model whose activations are no numbers.

    Raises:
        CheckpointInvalid: They are not finite after this layer.
    """
    is_finite = np.isfinite(residual).all(axis=1)
    if not is_finite.all():
        raise CheckpointInvalid(
            f"layer {layer}: activations are not finite at {(~is_finite).sum()} of {len(residual)} tokens, expected "
            "numbers. The checkpoint is damaged, or the text holds tokens that it was never trained on: pass another "
            "text, or export another checkpoint."
        )
