"""PagedAttention of com.microsoft in numpy, written from its documentation, and a graph of it that runs without a GPU.

No ONNX Runtime has the operator for CPUs. `PagedGraph` stands in for an open graph: it computes each node with ONNX's
own reference, on the memory that a session has bound, and writes the caches in place as the kernel does. Sums are of 64
bits, so that a row rounds the same whatever else is there.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Array = NDArray[Any]

# By the numbers of ONNX's element types.
NUMPY_TYPES = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    6: np.int32,
    7: np.int64,
    10: np.float16,
    16: ml_dtypes.bfloat16,
    17: ml_dtypes.float8_e4m3fn,
}


def paged_attention(
    query: Array,
    key_cache: Array,
    value_cache: Array,
    cumulative_sequence_length: Array,
    past_seqlens: Array,
    block_table: Array,
    cos_cache: Array,
    sin_cache: Array,
    *,
    num_heads: int,
    kv_num_heads: int,
    norms: tuple[Array, Array] | None = None,
    epsilon: float = 1e-6,
    scales: tuple[Array, Array] | None = None,
) -> Array:
    """Attention of packed tokens [tokens, (heads + 2 * kv_heads) * head_dim] over caches that it writes in place.

    Per head: norm, then rotation, then the cache. A token of a sequence sees the positions up to its own, which lie in
    the blocks that the sequence's row of the table names.
    """
    tokens, head_dim = len(query), key_cache.shape[-1]
    heads = query.astype(np.float64).reshape(tokens, num_heads + 2 * kv_num_heads, head_dim)
    q, k, v = np.split(heads, [num_heads, num_heads + kv_num_heads], axis=1)
    if norms is not None:
        q, k = (_norm(part, gain, epsilon) for part, gain in zip((q, k), norms, strict=True))
    output = np.empty((tokens, num_heads, head_dim))
    assert cumulative_sequence_length[0] == 0
    assert cumulative_sequence_length[-1] == tokens
    for row, past in enumerate(past_seqlens):
        start, end = cumulative_sequence_length[row : row + 2]
        positions = np.arange(past, past + end - start)
        turned = [_rotate(part[start:end], cos_cache[positions], sin_cache[positions]) for part in (q, k)]
        seen = []
        written = ((key_cache, turned[1]), (value_cache, v[start:end]))
        for (cache, fresh), scale in zip(written, scales or (None, None), strict=True):
            blocks, offsets = np.divmod(positions, cache.shape[1])
            cache[block_table[row][blocks], offsets] = _stored(fresh, cache.dtype, scale)
            of_sequence = cache[block_table[row]].reshape(-1, *cache.shape[2:])
            seen.append(_read(of_sequence[: past + end - start], scale))
        keys, values = seen
        group = num_heads // kv_num_heads
        scores = np.einsum("qhd,khd->hqk", turned[0], np.repeat(keys, group, 1)) / np.sqrt(head_dim)
        scores = np.where(np.arange(len(keys)) <= positions[:, None], scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        output[start:end] = np.einsum("hqk,khd->qhd", shares, np.repeat(values, group, 1))
    return output.reshape(tokens, -1).astype(query.dtype)


def _norm(heads: Array, gain: Array, epsilon: float) -> Array:
    normed: Array = heads / np.sqrt(np.square(heads).mean(-1, keepdims=True) + epsilon) * gain.astype(np.float64)
    return normed


def _rotate(heads: Array, cos: Array, sin: Array) -> Array:
    first, second = np.split(heads, 2, axis=-1)
    cos, sin = (table.astype(np.float64)[:, None] for table in (cos, sin))
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def _stored(fresh: Array, kind: Any, scale: Array | None) -> Array:
    if scale is None:
        return fresh.astype(kind)
    scaled = fresh / scale.reshape(-1, fresh.shape[-1] if scale.size > 1 else 1)
    return np.clip(np.rint(scaled), -128, 127).astype(kind) if kind == np.int8 else scaled.clip(-448, 448).astype(kind)


def _read(stored: Array, scale: Array | None) -> Array:
    values = stored.astype(np.float64)
    return values if scale is None else values * scale.reshape(-1, stored.shape[-1] if scale.size > 1 else 1)


class PagedAttention(OpRun):
    op_domain = "com.microsoft"

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[Array, ...]:
        query, key, value, *rest, slot_mapping, head_sink, q_norm, k_norm, k_scale, v_scale, metadata = inputs
        assert key is value is slot_mapping is head_sink is None
        lengths = np.diff(rest[2])
        totals = lengths + rest[3]
        tokens, most, least = metadata
        assert lengths.max() == tokens
        assert least <= totals.max() <= most <= rest[4].shape[1] * rest[0].shape[1]
        output = paged_attention(
            query,
            *rest,
            num_heads=attributes["num_heads"],
            kv_num_heads=attributes["kv_num_heads"],
            norms=None if q_norm is None else (q_norm, k_norm),
            epsilon=attributes["qk_norm_epsilon"],
            scales=None if k_scale is None else (k_scale, v_scale),
        )
        return (output,)


class SkipSimplifiedLayerNormalization(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x: Array, skip: Array, gamma: Array, epsilon: float | None = None) -> tuple[Any, ...]:
        total = x + skip
        normed = _norm(total.astype(np.float64), gamma, float(epsilon or 0)).astype(x.dtype)
        nothing = np.zeros(0, np.float32)
        return normed, nothing, nothing, total


class FusedMatMul(OpRun):
    op_domain = "com.microsoft"

    def _run(self, a: Array, b: Array, transB: int | None = None) -> tuple[Array, ...]:  # noqa: N803
        return ((a.astype(np.float64) @ (b.T if transB else b).astype(np.float64)).astype(a.dtype),)


class _Binding:
    """Keeps what is bound; values over memory are made by ONNX Runtime, as in its own binding."""

    def __init__(self, maker: Any) -> None:
        self._values = maker.io_binding()
        self.inputs: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}

    def bind_input(self, name: str, *where: Any) -> None:
        self.inputs[name] = _over(*where)

    def bind_output(self, name: str, *where: Any) -> None:
        self._values.bind_output(name, *where)
        self.outputs[name] = _over(*where)

    def get_outputs(self) -> Any:
        return self._values.get_outputs()

    def synchronize_inputs(self) -> None:
        pass


def _over(device: str, number: int, element_type: int, shape: Sequence[int], place: int) -> Array:
    assert (device, number) == ("cpu", 0)
    kind = np.dtype(NUMPY_TYPES[element_type])
    size = int(np.prod(shape)) * kind.itemsize
    return np.frombuffer((ctypes.c_byte * size).from_address(place), kind).reshape(shape)


class PagedGraph:
    """Stands in for ONNX Runtime's session of a graph of PagedAttention with float weights."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path)
        operators = [PagedAttention, SkipSimplifiedLayerNormalization, FusedMatMul]
        self._evaluator = ReferenceEvaluator(model, new_ops=operators)
        self._names = {value.name for value in model.graph.input}
        one = [helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in ("x", "logits")]
        identity = helper.make_graph([helper.make_node("Identity", ["x"], ["logits"])], "values", one[:1], one[1:])
        contents = helper.make_model(identity, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        self._maker = onnxruntime.InferenceSession(contents.SerializeToString(), providers=["CPUExecutionProvider"])

    def io_binding(self) -> _Binding:
        return _Binding(self._maker)

    def run_with_iobinding(self, binding: _Binding, _: Any) -> None:
        assert set(binding.inputs) == self._names
        (logits,) = self._evaluator.run(None, binding.inputs)
        binding.outputs["logits"][...] = logits


class CapturingGraph(PagedGraph):
    """As `PagedGraph`, and like a provider that captures: by the rules of ONNX Runtime's `enable_cuda_graph`.

    The first run of a graph's number computes what is bound. Later ones compute at the addresses of that run, with what
    lay in the host's memory then, and only in its thread; that they are bound to the same is asserted.

    Attributes:
        runs: The number of each run's graph, -1: none; and its thread.
        failure: What a capture raises.
    """

    def __init__(self, path: Path, *, captures: bool) -> None:
        super().__init__(path)
        self._captures = captures
        self.runs: list[tuple[int, int]] = []
        self.failure: Exception | None = None
        self._captured: dict[tuple[int, int], tuple[dict[str, Array], dict[str, Array]]] = {}

    def run_with_iobinding(self, binding: _Binding, options: Any) -> None:
        run = int(options.get_run_config_entry("gpu_graph_id")), threading.get_ident()
        self.runs.append(run)
        inputs, outputs = dict(binding.inputs), dict(binding.outputs)
        if self._captures and run[0] != -1:
            if self.failure is not None:
                raise self.failure
            inputs["attention_metadata"] = inputs["attention_metadata"].copy()
            bound, (inputs, outputs) = (inputs, outputs), self._captured.setdefault(run, (inputs, outputs))
            assert places(bound) == places((inputs, outputs))
            assert np.array_equal(bound[0]["attention_metadata"], inputs["attention_metadata"])
        (outputs["logits"][...],) = self._evaluator.run(None, inputs)


def places(values: Sequence[dict[str, Array]]) -> list[tuple[str, int, tuple[int, ...]]]:
    """Return where arrays lie on a device, and their shapes."""
    return [
        (name, array.ctypes.data, array.shape)
        for part in values
        for name, array in part.items()
        if name != "attention_metadata"
    ]
