"""The limits of the machine, measured in the same run: reading memory, and multiplying matrices.

Decoding a token reads every weight and all keys and values once: it cannot be faster than (bytes / read bandwidth).
Prefill multiplies every weight with every token: it cannot be faster than (2 * weights * tokens / multiply rate).
(Williams et al., "Roofline", CACM 2009.)
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from rubricrm.runtime.bundle import Bundle

_PASSES = 5
_MOST_BYTES = 2 << 30
_LEAST_BYTES = 256 << 20
_GEMM = (512, 2048, 2048)
_FLOAT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "float8e4m3fn": 1}


@dataclass(frozen=True)
class Limits:
    """What this machine can do with so many threads.

    Attributes:
        read_bytes_per_s: A streaming read of memory, as large as the weights (256 MB to 2 GB).
        flops_per_s: float32 multiplications and additions of a large matrix product, by numpy.
        read_bytes: How much was read.
    """

    read_bytes_per_s: float
    flops_per_s: float
    read_bytes: int

    def best(self, other: Limits) -> Limits:
        """Return the better of two measurements: what else the machine did can only lower them."""
        read = max(self.read_bytes_per_s, other.read_bytes_per_s)
        return Limits(read, max(self.flops_per_s, other.flops_per_s), self.read_bytes)


def measure_limits(weight_bytes: int, threads: int) -> Limits:
    """Measure: the best of five passes each, a few seconds."""
    size = min(max(weight_bytes, _LEAST_BYTES), _MOST_BYTES)
    return Limits(_read_rate(size, threads), _multiply_rate(), size)


def _read_rate(size: int, threads: int) -> float:
    parts = [np.ones(size // threads // 8, np.float64) for _ in range(threads)]
    total = sum(part.nbytes for part in parts)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_PASSES):
            started = time.perf_counter()
            list(pool.map(np.sum, parts))
            best = min(best, time.perf_counter() - started)
    return total / best


def _multiply_rate() -> float:
    rows, inner, columns = _GEMM
    left, right = np.ones((rows, inner), np.float32), np.ones((inner, columns), np.float32)
    best = float("inf")
    for _ in range(_PASSES):
        started = time.perf_counter()
        np.dot(left, right)
        best = min(best, time.perf_counter() - started)
    return 2 * rows * inner * columns / best


def weight_bytes(bundle: Bundle) -> int:
    """Return the bytes that a token reads: the graph's data without the rotary tables.

    A tied head reads the whole embedding; of an untied one's model the embedding, of which a token reads one row, is
    counted too: some percent too much. Floats that are computed with in a wider type than stored lie in memory in that.
    """
    facts = bundle.manifest
    # Whichever layout of the weights the bundle holds: both are read whole, and differ by a percent.
    graph = next(graph for graph in facts.graphs if facts.has_data(graph))
    data = sum(facts.files[name].size for name in (graph.file, graph.data_file) if name is not None)
    computed = _ELEMENT_BYTES[facts.graph.compute_type]
    tables = facts.model.context_length * facts.model.head_dim * computed
    stored = _FLOAT_BYTES.get(facts.quantization.weights, computed)
    return max(0, data - tables) * computed // stored


def kv_bytes(bundle: Bundle, positions: float) -> float:
    """Return the bytes of keys and values of so many positions."""
    model = bundle.manifest.model
    per_position = 2 * model.num_layers * model.num_kv_heads * model.head_dim
    return positions * per_position * _ELEMENT_BYTES[bundle.manifest.graph.kv_type]


def prefill_flops(bundle: Bundle, tokens: float) -> float:
    """Return the multiplications and additions of the matrices of so many tokens; attention is left out."""
    model = bundle.manifest.model
    # The head is computed for one row of a prompt.
    return 2.0 * (model.num_parameters - model.vocab_size * model.hidden_size) * tokens
