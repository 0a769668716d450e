"""Which quantization a target can run, and what is filled in."""

from typing import Any

import numpy as np
import pytest
from rubricrm.errors import OptionInvalid
from rubricrm_export.quantize.grid import Fp8Grid, IntegerGrid
from rubricrm_export.quantize.scheme import ROWS, Scheme, describe_rows


def scheme(target: str = "cpu", float_weights: str = "bf16", **options: Any) -> Scheme:
    return Scheme.of(target, float_weights, **options)


@pytest.mark.parametrize(
    ("options", "method", "block_size", "symmetric", "head"),
    [
        ({"weights": "int4"}, "rtn", 128, False, "int4"),
        ({"weights": "int4", "symmetric": True}, "rtn", 128, True, "int4"),
        ({"weights": "int8"}, "rtn", 32, True, "int8"),
        ({"weights": "int8", "activations": "int8"}, "smoothquant", None, True, "int8"),
        ({"weights": "int8", "block_size": "channel"}, "rtn", None, True, "int8"),
        ({"weights": "fp8"}, "rtn", 128, True, "model"),
        ({"weights": "fp8", "block_size": "channel"}, "rtn", None, True, "model"),
        ({"weights": "int4", "method": "gptq", "block_size": "64", "head": "int8"}, "gptq", 64, False, "int8"),
    ],
)
def test_defaults(options: dict[str, Any], method: str, block_size: int | None, symmetric: bool, head: str) -> None:
    found = scheme(**options)
    assert (found.method, found.block_size, found.symmetric, found.head) == (method, block_size, symmetric, head)
    assert found.is_quantized


@pytest.mark.parametrize("weights", [None, "fp32", "fp16", "bf16"])
def test_floats_are_as_they_are(weights: str | None) -> None:
    found = scheme(weights=weights)
    assert found.weights == found.float_weights == (weights or "bf16")
    assert (found.method, found.head, found.is_quantized, found.needs_calibration) == ("none", "model", False, False)


def test_floats_with_a_quantized_cache() -> None:
    found = scheme(kv="int8")
    assert (found.method, found.is_quantized, found.needs_calibration) == ("none", True, True)
    assert not found.rounds_by_calibration


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "cuda", "weights": "int8", "activations": "int8"}, "cannot be run by --target cuda, which has:"),
        ({"weights": "int4", "activations": "int8"}, "--weights int4 --activations int8 cannot be run by --target cpu"),
        ({"weights": "int4", "block_size": "channel"}, "--block-size channel cannot be run"),
        ({"weights": "int4", "method": "smoothquant"}, "--method smoothquant cannot be run"),
        ({"weights": "int8", "activations": "int8", "method": "gptq"}, "--method gptq cannot be run"),
        ({"weights": "int8", "activations": "int8", "block_size": "64"}, "--block-size 64 cannot be run"),
        ({"weights": "fp8", "method": "gptq"}, "--weights fp8 --activations none --method gptq cannot be run"),
        ({"weights": "fp8", "block_size": "64"}, "--block-size 64 cannot be run"),
        ({"target": "cuda", "weights": "int8", "block_size": "channel"}, "cannot be run by --target cuda"),
        ({"kv": "fp8"}, "--kv fp8 cannot be run by --target cpu, which has: model, int8, int8-tensor"),
        ({"weights": "int3"}, "weights must be one of fp32, .*, got 'int3'"),
        ({"weights": "int8", "kv": "int4"}, "kv must be one of model, int8, int8-tensor, fp8, got 'int4'"),
        ({"weights": "int8", "activations": "int4"}, "activations must be one of none, int8, fp8, got 'int4'"),
        ({"weights": "int8", "head": "fp8"}, "head must be one of model, int8, int4, got 'fp8'"),
        ({"weights": "int8", "symmetric": False}, "--symmetric/--asymmetric has no meaning with --weights int8"),
        ({"weights": "fp16", "method": "rtn"}, "--method has no meaning with --weights fp16. Leave it out."),
        ({"method": "gptq", "block_size": "32"}, "--method, --block-size has no meaning with --weights bf16"),
        ({"activations": "int8"}, "--activations has no meaning with --weights bf16"),
        ({"head": "int8"}, "--head has no meaning with --weights bf16"),
    ],
)
def test_what_cannot_be_run_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        scheme(**options)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_refusal_lists_every_row_of_the_target(target: str) -> None:
    with pytest.raises(OptionInvalid) as refused:
        scheme(target, weights="int4", activations="fp8")
    rows = [row for row in ROWS if row.target == target]
    assert str(refused.value).count("\n") == len(rows) == describe_rows(target).count("\n") + 1
    for row in rows:
        assert f"--weights {row.weights} --activations {row.activations}" in str(refused.value)


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row.target}-{row.weights}-{row.activations}-{row.block_sizes[0]}"
)
def test_every_combination_of_a_row_is_taken(row: Any) -> None:
    for block_size in row.block_sizes:
        for method in row.methods:
            options = {"weights": row.weights, "activations": row.activations, "block_size": block_size}
            found = scheme(row.target, method=method, **options)
            assert (found.block_size or "channel") == (int(block_size) if block_size.isdecimal() else "channel")
            assert found.rounds_by_calibration == (method != "rtn")
            assert found.needs_calibration == (method != "rtn" or row.activations == "fp8")


def test_grids() -> None:
    assert scheme(weights="int4").grid == IntegerGrid(4, 128, symmetric=False)
    assert scheme(weights="int8", activations="int8").grid == IntegerGrid(8, None, symmetric=True)
    assert scheme(weights="fp8").grid == Fp8Grid(128)
    assert scheme(weights="int4").head_grid == IntegerGrid(4, 32, symmetric=False)
    assert scheme(weights="int4", head="int8").head_grid == IntegerGrid(8, 32, symmetric=True)
    assert scheme(weights="fp8").head_grid is None
    half = scheme("cuda", "fp16", weights="int4").grid
    assert isinstance(half, IntegerGrid)
    assert half.scale_type is np.float16


def test_a_gpu_computes_in_16_bits_beside_quantized_weights() -> None:
    assert scheme("cuda", "fp32", weights="int4").float_weights == "fp16"
    assert scheme("cuda", "bf16", weights="fp8").float_weights == "bf16"
    assert scheme("cpu", "fp32", weights="int4").float_weights == "fp32"
