"""The limits of a device that is not the host: its memory's rate and its matrix products, by small graphs.

The host is measured by numpy (`roofline`). A GPU is measured through the same runtime that runs the model, so that no
other package is needed on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rubricrm.errors import DependencyMissing
from rubricrm.runtime.graph import open_graph

from rubricrm_bench.roofline import Limits

_PASSES = 5
_RUNS_PER_PASS = 10
_COPY_ELEMENTS = 1 << 28  # 0.5 GiB read and 0.5 GiB written in 16 bits: more than any cache holds
_GEMM_SIDE = 4096
_OPSET = 23
_IR_VERSION = 11


def measure_device_limits(device: str, *, copy_elements: int = _COPY_ELEMENTS, gemm_side: int = _GEMM_SIDE) -> Limits:
    """Measure a device: the best of five passes each, about a second on a GPU.

    Args:
        device: One of `rubricrm.runtime.manifest.DEVICES`.
        copy_elements: 16-bit numbers that one run reads, and writes as many.
        gemm_side: Side of the two square matrices of 16-bit floats that one run multiplies.

    Returns:
        `read_bytes_per_s` counts bytes read and bytes written of an elementwise operator, which is what a copy on the
        device achieves; `flops_per_s` is of a product of float16 matrices.

    Raises:
        DependencyMissing: onnx is not installed, which builds the two graphs.
        RuntimeMissing: The device cannot be used here.
    """
    numbers = np.ones(copy_elements, np.float16)
    copied = _best_seconds(device, "Neg", {"x": numbers})
    square = np.ones((gemm_side, gemm_side), np.float16)
    multiplied = _best_seconds(device, "MatMul", {"x": square, "y": square})
    return Limits(2 * numbers.nbytes / copied, 2 * gemm_side**3 / multiplied, 2 * numbers.nbytes)


def _best_seconds(device: str, operator: str, inputs: dict[str, Any]) -> float:
    """Return the seconds of one run of an operator whose inputs already lie on the device."""
    graph = open_graph(_one_operator(operator, inputs), threads=1, device=device)
    binding = graph.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)  # copied to the device once, here
    binding.bind_output("z", "cpu" if device == "cpu" else "cuda")

    def run() -> None:
        for _ in range(_RUNS_PER_PASS):
            graph.run_with_iobinding(binding)
        binding.synchronize_outputs()

    run()
    return min(_seconds(run) for _ in range(_PASSES)) / _RUNS_PER_PASS


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _one_operator(operator: str, inputs: dict[str, Any]) -> bytes:
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise DependencyMissing(
            "measuring a device needs onnx, which is not installed. Install it: pip install 'onnx==1.23.2'."
        ) from error
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, array.shape) for name, array in inputs.items()]
    result = helper.make_tensor_value_info("z", TensorProto.FLOAT16, None)
    graph = helper.make_graph([helper.make_node(operator, list(inputs), ["z"])], operator, values, [result])
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    serialized: bytes = model.SerializeToString()
    return serialized
