"""Which options go together: defaults, what a target can run, and the errors that say so."""

from dataclasses import replace
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.manifest import ACTIVATIONS, FLOAT_WEIGHTS, TARGETS, WEIGHTS
from rubricrm_export.graph.storage_table import STORAGES
from rubricrm_export.onnx_bundle.export import OnnxExport
from rubricrm_export.quantize.combinations import COMBINATIONS, READER, SCHEME_TARGETS, describe_combinations
from rubricrm_export.quantize.grid import Fp8Grid, IntegerGrid
from rubricrm_export.quantize.scheme import Scheme
from rubricrm_export.quantize.vocabulary import BLOCK_SIZES, HEAD_BLOCK_SIZES, HEADS, KV_CACHES, METHODS
from rubricrm_export.tensorrt.support import FORMATS, GROUP_SIZE, Format, choose
from rubricrm_export.tensorrt.tensorrt_plan import scheme_of_format

QUANTIZED_WEIGHTS = ("int8", "int4", "fp8")

# target, weights, activations: method, block size, symmetric, head of what is left out
DEFAULTS = {
    (READER, "int4", "none"): ("rtn", 128, True, "model"),
    (READER, "int8", "none"): ("rtn", None, True, "model"),
    (READER, "int8", "int8"): ("smoothquant", None, True, "model"),
    (READER, "fp8", "fp8"): ("rtn", None, True, "model"),
    ("cpu", "int4", "none"): ("rtn", 128, False, "int4"),
    ("cpu", "int8", "none"): ("rtn", 32, True, "int8"),
    ("cpu", "int8", "int8"): ("smoothquant", None, True, "int8"),
    ("cpu", "fp8", "none"): ("rtn", 128, True, "model"),
    ("cpu", "fp8", "fp8"): ("rtn", 128, True, "model"),
    ("cuda", "int4", "none"): ("rtn", 128, False, "int4"),
    ("cuda", "int8", "none"): ("rtn", 32, True, "int8"),
    ("cuda", "fp8", "none"): ("rtn", 128, True, "model"),
    ("cuda", "fp8", "fp8"): ("rtn", 128, True, "model"),
    ("tensorrt", "int4", "none"): ("rtn", 128, True, "model"),
    ("tensorrt", "int8", "int8"): ("smoothquant", None, True, "model"),
    ("tensorrt", "fp8", "fp8"): ("rtn", None, True, "model"),
}
# How keys and values are stored unless they are asked for; of other targets as the activations.
DEFAULT_KV = {"cpu": "float16"}


# --- what there is


@pytest.mark.parametrize(("target", "weights", "activations"), DEFAULTS)
def test_defaults(target: str, weights: str, activations: str) -> None:
    scheme = Scheme.of(target, "bf16", weights=weights, activations=activations)
    expected = DEFAULTS[target, weights, activations]
    assert (scheme.method, scheme.block_size, scheme.symmetric, scheme.head) == expected
    assert (scheme.target, scheme.weights, scheme.activations) == (target, weights, activations)
    assert (scheme.kv, scheme.float_weights) == (
        DEFAULT_KV.get(target, "model"),
        "fp16" if target == "tensorrt" else "bf16",
    )
    assert scheme.is_quantized


def test_table_has_a_default_for_each_kind_of_row() -> None:
    assert {(row.target, row.weights, row.activations) for row in COMBINATIONS} == set(DEFAULTS)


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
@pytest.mark.parametrize("float_weights", FLOAT_WEIGHTS)
@pytest.mark.parametrize("weights", [None, *FLOAT_WEIGHTS])
def test_float_weights(target: str, float_weights: str, weights: str | None) -> None:
    if target == "cuda" and weights == "fp32":
        with pytest.raises(OptionInvalid, match="--weights fp32 cannot be run by --target cuda, which has: fp16"):
            Scheme.of(target, float_weights, weights=weights)
        return
    is_half = target == "tensorrt" or (target, float_weights) == ("cuda", "fp32")
    stored = weights or ("fp16" if is_half else float_weights)
    scheme = Scheme.of(target, float_weights, weights=weights)
    kv = "model" if stored == "fp32" else DEFAULT_KV.get(target, "model")
    assert scheme == Scheme(target, stored, "none", kv, "none", None, False, "model", stored)
    assert (scheme.is_quantized, scheme.needs_calibration, scheme.head_grid) == (False, False, None)


@pytest.mark.parametrize(
    ("target", "float_weights", "kept"),
    [
        ("cpu", "fp32", "fp32"),
        ("cpu", "bf16", "bf16"),
        ("cpu", "fp16", "fp16"),
        ("cuda", "fp32", "fp16"),
        ("cuda", "fp16", "fp16"),
        ("cuda", "bf16", "bf16"),
        ("tensorrt", "fp32", "fp16"),
        ("tensorrt", "bf16", "fp16"),
    ],
)
@pytest.mark.parametrize("weights", QUANTIZED_WEIGHTS)
def test_what_is_not_quantized_keeps_its_type_but_fp32_on_a_gpu(
    target: str, float_weights: str, kept: str, weights: str
) -> None:
    activations = weights if target == "tensorrt" and weights != "int4" else "none"
    assert Scheme.of(target, float_weights, weights=weights, activations=activations).float_weights == kept


def all_options() -> list[dict[str, Any]]:
    names = ("target", "weights", "activations", "block_size", "method", "kv", "head")
    blocks, methods, heads = (None, *BLOCK_SIZES), (None, *METHODS), (None, *HEADS)
    values = (TARGETS, WEIGHTS, ACTIVATIONS, blocks, methods, KV_CACHES, heads)
    return [dict(zip(names, chosen, strict=True)) for chosen in product(*values)]


def is_possible(target: str, weights: str, activations: str, kv: str, **options: str | None) -> bool:
    """The table as the documents state it, written again."""
    block_size, method = options["block_size"], options["method"]
    if target == "tensorrt":
        return is_possible_for_tensorrt(weights, activations, kv, **options)
    if kv == {"cpu": "fp8", "cuda": "float16"}[target]:
        return False
    if weights in FLOAT_WEIGHTS:
        return (target, weights) != ("cuda", "fp32") and activations == "none" and not any(options.values())
    if weights in ("int4", "int8") and activations == "none":
        if block_size == "channel":
            return weights == "int8" and target == "cpu" and method in (None, "rtn")
        return method != "smoothquant"
    if weights == "int8":
        is_known = block_size in (None, "channel") and method in (None, "rtn", "smoothquant")
        return target == "cpu" and activations == "int8" and is_known
    if weights == "fp8":
        return activations in ("none", "fp8") and block_size in (None, "128", "channel") and method in (None, "rtn")
    return False


def is_possible_for_tensorrt(weights: str, activations: str, kv: str, **options: str | None) -> bool:
    block_size, method, head = options["block_size"], options["method"], options["head"]
    if kv != "model" or head not in (None, "model"):
        return False
    if weights in FLOAT_WEIGHTS:
        return activations == "none" and not any(options.values())
    if weights == "int4":
        return activations == "none" and block_size != "channel" and method != "smoothquant"
    methods = (None, "rtn", "smoothquant") if weights == "int8" else (None, "rtn")
    return activations == weights and block_size in (None, "channel") and method in methods


def test_every_combination_is_made_or_refused() -> None:
    made = 0
    assert {*TARGETS, READER} == {*SCHEME_TARGETS}
    for options in all_options():
        target = options.pop("target")
        if not is_possible(target, **options):
            # What there is stands in the message, or what to leave out.
            with pytest.raises(OptionInvalid, match="which has:|Leave it out"):
                Scheme.of(target, "bf16", **options)
            continue
        scheme = Scheme.of(target, "bf16", **options)
        made += 1
        for name, value in options.items():
            wanted = None if value == "channel" else int(value) if name == "block_size" and value else value
            assert value is None or getattr(scheme, name) == wanted, (target, options)
        assert any(
            (row.target, row.weights, row.activations) == (target, scheme.weights, scheme.activations)
            and scheme.method in row.methods
            and str(scheme.block_size or "channel") in row.block_sizes
            for row in COMBINATIONS
        ) or (scheme.weights in FLOAT_WEIGHTS)
    assert made > 300


@pytest.mark.parametrize(
    ("options", "needs", "rounds"),
    [
        ({"weights": "int4"}, False, False),
        ({"weights": "int8", "method": "rtn"}, False, False),
        ({"weights": "fp8"}, False, False),
        ({"weights": "int4", "method": "gptq"}, True, True),
        ({"weights": "int8", "method": "awq"}, True, True),
        ({"weights": "int8", "activations": "int8"}, True, True),
        ({"weights": "int8", "activations": "int8", "method": "rtn"}, False, False),
        ({"weights": "fp8", "activations": "fp8"}, True, False),
        ({"kv": "int8"}, True, False),
        ({"weights": "int4", "kv": "int8-tensor"}, True, False),
        ({"kv": "float16"}, False, False),
        ({"weights": "int4", "kv": "model"}, False, False),
        ({}, False, False),
    ],
    ids=str,
)
def test_what_needs_calibration(options: dict[str, str], needs: bool, rounds: bool) -> None:
    scheme = Scheme.of("cpu", "bf16", **options)  # type: ignore[arg-type]
    assert (scheme.needs_calibration, scheme.rounds_by_calibration) == (needs, rounds)


def test_a_narrow_cache_alone_is_a_quantization() -> None:
    scheme = Scheme.of("cpu", "bf16", kv="int8")
    assert (scheme.is_quantized, scheme.weights, scheme.method) == (True, "bf16", "none")
    assert not Scheme.of("cpu", "bf16", kv="float16").is_quantized
    assert Scheme.of("cuda", "fp16", kv="fp8").needs_calibration


# --- grids


@pytest.mark.parametrize(
    ("target", "options", "grid"),
    [
        ("cpu", {"weights": "int4"}, IntegerGrid(4, 128, symmetric=False, scale_type=np.float16)),
        ("cpu", {"weights": "int4", "block_size": "32"}, IntegerGrid(4, 32, symmetric=False, scale_type=np.float16)),
        ("cpu", {"weights": "int4", "symmetric": True}, IntegerGrid(4, 128, symmetric=True, scale_type=np.float16)),
        ("cpu", {"weights": "int4", "symmetric": False}, IntegerGrid(4, 128, symmetric=False, scale_type=np.float16)),
        ("cpu", {"weights": "int8", "block_size": "64"}, IntegerGrid(8, 64, symmetric=True, scale_type=np.float16)),
        ("cpu", {"weights": "int8", "block_size": "channel"}, IntegerGrid(8, None, symmetric=True)),
        ("cpu", {"weights": "int8", "activations": "int8"}, IntegerGrid(8, None, symmetric=True)),
        ("cpu", {"weights": "fp8"}, Fp8Grid(128)),
        ("cuda", {"weights": "fp8", "block_size": "channel", "activations": "fp8"}, Fp8Grid()),
        ("cuda", {"weights": "int4"}, IntegerGrid(4, 128, False, ml_dtypes.bfloat16)),
    ],
    ids=str,
)
def test_grid_of_the_layers(target: str, options: dict[str, Any], grid: object) -> None:
    assert Scheme.of(target, "bf16", **options).grid == grid


@pytest.mark.parametrize(("float_weights", "kept"), [("fp32", np.float16), ("fp16", np.float16)])
def test_scales_on_a_gpu_have_the_activations_type(float_weights: str, kept: Any) -> None:
    scheme = Scheme.of("cuda", float_weights, weights="int4", block_size="64")
    assert scheme.grid == IntegerGrid(4, 64, False, kept)
    assert scheme.head_grid == IntegerGrid(4, 32, False, kept)


@pytest.mark.parametrize("weights", QUANTIZED_WEIGHTS)
@pytest.mark.parametrize("head", [None, *HEADS])
def test_head_grid(weights: str, head: str | None) -> None:
    scheme = Scheme.of("cpu", "bf16", weights=weights, head=head)
    stored = head or {"int4": "int4", "int8": "int8", "fp8": "model"}[weights]
    grids = {
        "model": None,
        "int8": IntegerGrid(8, 32, symmetric=True, scale_type=np.float16),
        "int4": IntegerGrid(4, 32, symmetric=False, scale_type=np.float16),
    }
    assert scheme.head_grid == grids[stored]


@pytest.mark.parametrize(("weights", "symmetric"), [("int4", True), ("int4", False), ("int8", None), ("fp8", None)])
def test_an_int4_head_has_zero_points_unless_the_layers_have_none(weights: str, symmetric: bool | None) -> None:
    scheme = Scheme.of("cpu", "bf16", weights=weights, head="int4", symmetric=symmetric)
    assert scheme.head_grid == IntegerGrid(4, 32, symmetric=bool(symmetric), scale_type=np.float16)


@pytest.mark.parametrize("size", HEAD_BLOCK_SIZES)
@pytest.mark.parametrize(("weights", "bits"), [("int8", 8), ("int4", 4)])
def test_blocks_of_the_head(weights: str, bits: int, size: str) -> None:
    scheme = Scheme.of("cpu", "bf16", weights=weights, head_block_size=size)
    assert scheme.head_grid == IntegerGrid(bits, int(size), symmetric=bits == 8, scale_type=np.float16)
    assert scheme.grid == Scheme.of("cpu", "bf16", weights=weights).grid


@pytest.mark.parametrize("options", [{"weights": "fp8"}, {"weights": "int4", "head": "model"}], ids=str)
def test_a_float_head_has_no_blocks(options: dict[str, str]) -> None:
    with pytest.raises(OptionInvalid, match="--head-block-size has no meaning with --head model. Leave it out"):
        Scheme.of("cpu", "bf16", head_block_size="64", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "options", "recipe"),
    [
        ("cpu", {"weights": "int4"}, "INT4 block 128, round to nearest, head INT4"),
        ("cuda", {"weights": "int4", "method": "gptq", "kv": "fp8"}, "INT4 block 128, GPTQ, head INT4"),
        ("cpu", {"weights": "int4", "symmetric": True}, "INT4 block 128, symmetric, round to nearest, head INT4"),
        ("cpu", {"weights": "int8", "head": "model"}, "INT8 block 32, round to nearest, head float"),
        ("cpu", {"weights": "int8", "head_block_size": "64"}, "INT8 block 32, round to nearest, head INT8 block 64"),
        (
            "cpu",
            {"weights": "int8", "activations": "int8"},
            "INT8 per channel, activations INT8 with scales per token, SmoothQuant, head INT8",
        ),
        (
            "tensorrt",
            {"weights": "int8", "activations": "int8"},
            "INT8 per channel, activations INT8 with one scale, SmoothQuant, head float",
        ),
        ("cpu", {"kv": "int8"}, "float weights"),
    ],
    ids=str,
)
def test_recipe_in_words(target: str, options: dict[str, Any], recipe: str) -> None:
    assert Scheme.of(target, "bf16", **options).recipe == recipe


def test_what_a_gpu_runs_is_measured_by_a_combination_of_the_cpu() -> None:
    tried = 0
    for options in all_options():
        target = options.pop("target")
        if target == "cuda" and is_possible(target, **options):
            there = options | {"kv": "model"} if options["kv"] == "fp8" else options
            expected = Scheme.of("cpu", "bf16", **there)
            assert Scheme.of(target, "bf16", **options).on_cpu() == expected
            tried += 1
    assert tried > 100


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: f"{row.reader}-{row.weights}")
def test_every_format_of_a_reader_has_a_scheme(row: Format) -> None:
    grids = {
        "int4": IntegerGrid(4, GROUP_SIZE, symmetric=True),
        "int8": IntegerGrid(8, None, symmetric=True),
        "fp8": Fp8Grid(None),
    }
    for method, kv in product(row.methods or (None,), row.kv_caches):
        scheme = scheme_of_format(choose(row.reader, row.weights, kv=kv, method=method), "bf16")
        assert (scheme.method, scheme.head, scheme.float_weights) == (method or "none", "model", "bf16")
        assert scheme.kv == {"int8": "int8-tensor"}.get(kv, kv)
        if row.methods:
            assert (scheme.weights, scheme.activations) == (row.weights, row.form.activations)
            assert scheme.grid == grids[row.weights]
        else:
            assert scheme.weights == "bf16"


def test_every_combination_names_its_own_operator() -> None:
    named = set()
    for row in COMBINATIONS:
        for size, method in product(row.block_sizes, row.methods):
            chosen = {"weights": row.weights, "activations": row.activations, "block_size": size, "method": method}
            assert Scheme.of(row.target, "bf16", **chosen).operator == row.operator
        named |= {row.operator} if row.target != READER else set()
    # Each of them has what makes it, and nothing is made that no combination names.
    assert named == set(STORAGES)


def test_another_method() -> None:
    scheme = Scheme.of("cpu", "bf16", weights="int4", method="gptq")
    assert replace(scheme, method="rtn") == Scheme.of("cpu", "bf16", weights="int4", method="rtn")


# --- what there is not


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("cuda", {"weights": "int8", "activations": "int8"}, ["--weights int8 --activations int8", "cuda"]),
        ("cpu", {"weights": "int4", "activations": "int8"}, ["--weights int4 --activations int8", "cpu"]),
        ("cpu", {"weights": "int8", "activations": "fp8"}, ["--weights int8 --activations fp8"]),
        ("cuda", {"weights": "fp8", "activations": "int8"}, ["--weights fp8 --activations int8"]),
        ("cpu", {"weights": "fp8", "method": "gptq"}, ["--weights fp8", "--method gptq"]),
        ("cuda", {"weights": "fp8", "method": "awq"}, ["--weights fp8", "--method awq"]),
        ("cpu", {"weights": "fp8", "block_size": "64"}, ["--weights fp8", "--block-size 64"]),
        ("cpu", {"weights": "int4", "method": "smoothquant"}, ["--weights int4", "--method smoothquant"]),
        ("cpu", {"weights": "int8", "method": "smoothquant"}, ["--activations none", "--method smoothquant"]),
        ("cpu", {"weights": "int8", "activations": "int8", "method": "gptq"}, ["--method gptq"]),
        ("cpu", {"weights": "int8", "activations": "int8", "block_size": "32"}, ["--block-size 32"]),
        ("cpu", {"weights": "int4", "block_size": "channel"}, ["--block-size channel"]),
        ("cuda", {"weights": "int8", "block_size": "channel"}, ["--block-size channel"]),
        ("cpu", {"weights": "int8", "block_size": "channel", "method": "gptq"}, ["channel", "--method gptq"]),
        ("cpu", {"weights": "int4", "block_size": "48"}, ["--block-size 48"]),
        ("cpu", {"weights": "int4", "block_size": "16"}, ["--block-size 16"]),
        ("cpu", {"weights": "int4", "method": "best"}, ["--method best"]),
    ],
    ids=str,
)
def test_combination_that_no_operator_runs_is_refused_with_the_list_of_those_that_do(
    target: str, options: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(OptionInvalid) as caught:
        Scheme.of(target, "bf16", **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert all(word in message for word in words)
    assert f"cannot be run by --target {target}, which has:\n{describe_combinations(target)}" in message


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_table_names_every_row_of_a_target(target: str) -> None:
    lines = describe_combinations(target).splitlines()
    rows = [row for row in COMBINATIONS if row.target == target]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert f"--weights {row.weights} --activations {row.activations} " in line
        assert f"--block-size {'|'.join(row.block_sizes)} --method {'|'.join(row.methods)}" in line
        assert row.operator in line


@pytest.mark.parametrize("options", [{}, {"weights": "int4"}, {"weights": "fp8"}], ids=str)
def test_fp8_cache_on_the_cpu_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(OptionInvalid, match="--kv fp8 cannot be run by --target cpu, which has: float16, model, int8"):
        Scheme.of("cpu", "bf16", kv="fp8", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", FLOAT_WEIGHTS)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"activations": "int8"}, "--activations"),
        ({"method": "rtn"}, "--method"),
        ({"block_size": "32"}, "--block-size"),
        ({"head": "int8"}, "--head"),
        ({"head_block_size": "32"}, "--head-block-size"),
        ({"symmetric": True}, "--symmetric"),
        ({"symmetric": False}, "--symmetric"),
        ({"method": "gptq", "block_size": "32"}, "--method, --block-size"),
    ],
    ids=str,
)
def test_option_without_a_meaning_for_float_weights(weights: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionInvalid, match=f"{named} has no meaning with --weights {weights}. Leave it out"):
        Scheme.of("cpu", "bf16", weights=weights, **options)
    with pytest.raises(OptionInvalid, match=named):
        Scheme.of("cpu", weights, **options)


@pytest.mark.parametrize("weights", ["int8", "fp8"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_zero_points_are_chosen_at_four_bits_only(weights: str, symmetric: bool) -> None:
    with pytest.raises(OptionInvalid, match=f"symmetric has no meaning with --weights {weights}"):
        Scheme.of("cpu", "bf16", weights=weights, symmetric=symmetric)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", "int2"),
        ("weights", "INT4"),
        ("activations", "int4"),
        ("kv", "int4"),
        ("head", "fp8"),
        ("head", "fp16"),
        ("head-block-size", "16"),
        ("head-block-size", "channel"),
    ],
)
def test_unknown_value_is_refused_with_the_known_ones(name: str, value: str) -> None:
    options = {"weights": WEIGHTS, "activations": ACTIVATIONS, "kv": KV_CACHES, "head": HEADS}
    known = (options | {"head-block-size": HEAD_BLOCK_SIZES})[name]
    with pytest.raises(OptionInvalid, match=f"{name} must be one of {', '.join(known)}, got '{value}'"):
        Scheme.of("cpu", "bf16", **({"weights": "int4"} | {name.replace("-", "_"): value}))  # type: ignore[arg-type]


# --- the job


def test_job_hands_its_options_on(tmp_path: Any) -> None:
    options: dict[str, Any] = {
        "weights": "int4",
        "activations": "none",
        "kv": "int8",
        "method": "awq",
        "block_size": "64",
        "symmetric": True,
        "head": "int8",
        "head_block_size": "128",
    }
    job = OnnxExport("checkpoint", tmp_path / "bundle", target="cuda", **options)
    assert job.scheme("fp16") == Scheme.of("cuda", "fp16", **options)
    assert job.command == (
        "rubricrm export onnx checkpoint --target cuda --weights int4 --kv int8 --method awq --block-size 64 "
        "--head int8 --head-block-size 128 --symmetric"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "int5"}, "weights must be one of"),
        ({"target": "tpu"}, "target must be one of"),
        ({"max_kl": -0.1}, "--max-kl must be a finite number >= 0"),
        ({"max_kl": float("nan")}, "--max-kl must be a finite number >= 0"),
        ({"max_kl": float("inf")}, "--max-kl must be a finite number >= 0"),
        ({"min_top1": 1.01}, "--min-top1 must be a share from 0 to 1"),
        ({"min_top1": -1.0}, "--min-top1 must be a share from 0 to 1"),
    ],
    ids=str,
)
def test_job_refuses_what_needs_no_checkpoint(tmp_path: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionInvalid, match=message):
        OnnxExport("checkpoint", tmp_path / "bundle", **options)
