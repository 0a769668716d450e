"""The graph of steps for CUDA: its contract with the operator, and what it computes by a reference of that."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as KernelMissing
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
from paged_reference import PagedGraph, paged_attention
from rubricrm.errors import RuntimeFailed
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime import session as session_module
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.graph_choice import GraphChoice, choose_graph
from rubricrm.runtime.kernels import find_kernels
from rubricrm.runtime.manifest import RUBRIC
from rubricrm.runtime.prefix import compute_prefix
from rubricrm.runtime.session import Session
from rubricrm.runtime.slot import Chunk
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

pytestmark = pytest.mark.usefixtures("one_core")
MakeCheckpoint = Callable[..., Path]
Export = Callable[..., Bundle]
Array = NDArray[Any]

LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB, CONTEXT = 2, 4, 2, 32, 272, 2048
TOKEN_IDS = [5 + (7 * n) % 250 for n in range(600)]
KV_TYPES = {
    "model": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "int8-tensor": TensorProto.INT8,
    "fp8": TensorProto.FLOAT8E4M3FN,
}
TYPE_TEXTS = {
    TensorProto.FLOAT: "tensor(float)",
    TensorProto.INT8: "tensor(int8)",
    TensorProto.INT32: "tensor(int32)",
    TensorProto.FLOAT16: "tensor(float16)",
    TensorProto.FLOAT8E4M3FN: "tensor(float8e4m3fn)",
}


def step_graph(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load(bundle.path / "model.step.onnx", load_external_data=False)


def attentions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "PagedAttention"]


# --- the contract


@pytest.mark.parametrize("weights", ["fp16", "bf16"])
def test_a_bundle_for_cuda_has_both_graphs_over_one_data_file(
    make_checkpoint: MakeCheckpoint, export: Export, weights: str
) -> None:
    bundle = export(make_checkpoint(), target="cuda", weights=weights)
    step, shared = bundle.manifest.graphs
    kind = {"fp16": "float16", "bf16": "bfloat16"}[weights]
    assert (step.file, step.kv_update, step.kv_type, step.compute_type) == ("model.step.onnx", "paged", kind, kind)
    assert step == replace(shared, file=step.file, kv_update=step.kv_update)
    assert "model.step.onnx.data" not in bundle.manifest.files
    model = step_graph(bundle)
    onnx_type = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[weights]
    described = {
        value.name: (
            value.type.tensor_type.elem_type,
            [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim],
        )
        for value in model.graph.input
    }
    cache = (onnx_type, ["blocks", "block_size", KV_HEADS, HEAD_DIM])
    assert described == {
        "input_ids": (TensorProto.INT64, ["tokens"]),
        "cumulative_sequence_length": (TensorProto.INT32, ["sequences_and_1"]),
        "past_seqlens": (TensorProto.INT32, ["sequences"]),
        "block_table": (TensorProto.INT32, ["sequences", "blocks_per_sequence"]),
        "attention_metadata": (TensorProto.INT32, [3]),
        "logit_rows": (TensorProto.INT64, ["rows"]),
        **{f"{half}_cache.{layer}": cache for layer in range(LAYERS) for half in ("key", "value")},
    }
    (logits,) = model.graph.output
    assert (logits.name, logits.type.tensor_type.elem_type) == ("logits", TensorProto.FLOAT)


@pytest.mark.parametrize("kv", KV_TYPES)
@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
def test_the_operator_matches_the_runtimes_schema(
    make_checkpoint: MakeCheckpoint, export: Export, kv: str, architecture: str
) -> None:
    bundle = export(make_checkpoint(architecture), target="cuda", weights="fp16", kv=kv, max_kl="none")
    model = step_graph(bundle)
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    types |= {value.name: value.data_type for value in model.graph.initializer}
    (schema,) = [s for s in get_all_operator_schema() if (s.name, s.domain) == ("PagedAttention", "com.microsoft")]
    kinds = {parameter.type_param_str: list(parameter.allowed_type_strs) for parameter in schema.type_constraints}
    nodes = attentions(model)
    assert len(nodes) == LAYERS
    for node in nodes:
        assert len(node.input) == schema.max_input
        assert len(node.output) == schema.min_output == 1
        assert {attribute.name for attribute in node.attribute} <= set(schema.attributes)
        assert all(a.name in {b.name for b in node.attribute} for a in schema.attributes.values() if a.required)
        for name, formal in zip(node.input, schema.inputs, strict=True):
            if not name:
                assert formal.option.name == "Optional"
            elif name in types:
                assert TYPE_TEXTS[types[name]] in kinds[formal.typeStr], formal.name
        has_norm = architecture.startswith("Qwen3")
        assert [bool(name) for name in node.input[12:14]] == [has_norm] * 2
        assert [bool(name) for name in node.input[14:16]] == [kv != "model"] * 2
        assert node.input[16] == "attention_metadata"
        assert types[node.input[3]] == types[node.input[4]] == KV_TYPES[kv]


@pytest.mark.parametrize("kv", KV_TYPES)
def test_the_runtime_misses_nothing_but_the_kernel(make_checkpoint: MakeCheckpoint, export: Export, kv: str) -> None:
    """It checks types, shapes and attributes of the whole graph before it looks for kernels, which CPUs lack."""
    bundle = export(make_checkpoint(), target="cuda", weights="fp16", kv=kv, max_kl="none")
    path = bundle.path / "model.step.onnx"
    with pytest.raises(KernelMissing, match=r"implementation for PagedAttention\("):
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


# --- the operator's reference


def dense(q: Array, k: Array, v: Array) -> Array:
    """Causal attention of one sequence, token by token in float64."""
    rows = []
    for token in range(len(q)):
        row = []
        for head in range(HEADS):
            keys, values = (part[: token + 1, head // (HEADS // KV_HEADS)] for part in (k, v))
            scores = keys @ q[token, head] / np.sqrt(HEAD_DIM)
            shares = np.exp(scores - scores.max())
            row.append(shares @ values / shares.sum())
        rows.append(np.concatenate(row))
    return np.array(rows)


def test_the_reference_is_causal_attention_of_each_sequence() -> None:
    rng = np.random.default_rng(0)
    lengths, block_size = (37, 5, 64), 16
    projected = [rng.standard_normal((n, HEADS + 2 * KV_HEADS, HEAD_DIM)) for n in lengths]
    caches = [np.zeros((20, block_size, KV_HEADS, HEAD_DIM), np.float32) for _ in range(2)]
    table = rng.permutation(20)[:12].reshape(3, 4).astype(np.int32)
    still = np.ones((CONTEXT, HEAD_DIM // 2), np.float32), np.zeros((CONTEXT, HEAD_DIM // 2), np.float32)
    past = np.zeros(3, np.int32)
    for ends in ((20, 1, 64), (21, 4, 64), (37, 5, 64)):
        parts = [rows[start:end] for rows, start, end in zip(projected, past, ends, strict=True)]
        cumulative = np.cumsum([0, *map(len, parts)], dtype=np.int32)
        packed = np.concatenate(parts).reshape(cumulative[-1], -1).astype(np.float32)
        found = paged_attention(
            packed, *caches, cumulative, past, table, *still, num_heads=HEADS, kv_num_heads=KV_HEADS
        )
        for number, rows in enumerate(projected):
            expected = dense(*np.split(rows, [HEADS, HEADS + KV_HEADS], 1))[past[number] : ends[number]]
            assert np.abs(found[cumulative[number] : cumulative[number + 1]] - expected).max(initial=0) < 1e-5
        past = np.array(ends, np.int32)


# --- the graph by that reference


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Bundle:
    """The tiny model for CUDA."""
    output = tmp_path_factory.mktemp("paged") / "bundle"
    return export_onnx(OnnxExport(str(tiny_bundle.with_name("checkpoint")), output, target="cuda", weights="fp16"))


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> Iterator[Session]:
    """A session on the graph of steps, computed by the reference in this process's memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "choose", lambda *_, **__: GraphChoice(bundle.manifest.graphs[0], "cpu"))
        patch.setattr(session_module, "open_graph", lambda path, **_: PagedGraph(path))
        session = Session(bundle, max_rows=300)
    yield session
    session.close()


@pytest.fixture(scope="module")
def expected(tiny_bundle: Path) -> Array:
    """The logits after each token by the same weights in float32, on ONNX Runtime's own operators."""
    bundle = Bundle.open(tiny_bundle)
    contents = bundle.file("model.onnx").read_bytes()
    session = Session(bundle, threads=1, max_rows=600, variant=session_module.GraphVariant("model.onnx", contents))
    rows = session.run(session.new_slot(600), TOKEN_IDS, 600)
    session.close()
    return rows


def close(found: Array, expected: Array) -> bool:
    """Whether logits differ by no more than 16-bit activations make them."""
    return bool(np.abs(found - expected).max(initial=0) < 1e-2 * np.abs(expected).max())


def test_a_mixed_step_computes_what_each_sequence_would_alone(session: Session, expected: Array) -> None:
    assert session.takes_any_mix
    assert not session.is_exact
    slots = session.new_slots(3, 600)
    session.run(slots[0], TOKEN_IDS[:250])
    chunks = [
        Chunk(slots[1], TOKEN_IDS[:40], 2),  # a prompt
        Chunk(slots[0], TOKEN_IDS[250:260], 10),  # tokens that are verified, over the end of a block
        Chunk(slots[2], TOKEN_IDS[:1], 0),  # a part of a prompt
    ]
    first, second, third = session.step(chunks)
    assert close(first, expected[38:40])
    assert close(second, expected[250:260])
    assert third.shape == (0, VOCAB)
    rows = session.step([Chunk(slots[n], [TOKEN_IDS[count]]) for n, count in ((2, 1), (1, 40), (0, 260))])
    for row, count in zip(rows, (1, 40, 260), strict=True):
        assert close(row, expected[count : count + 1])


def test_positions_are_those_that_a_prefix_file_holds(session: Session, expected: Array) -> None:
    slot, other = session.new_slots(2, 600)
    session.run(slot, TOKEN_IDS[:300])
    positions = slot.cache.positions(300)
    assert positions.shape == (LAYERS, 2, 1, KV_HEADS, 300, HEAD_DIM)
    assert positions.dtype == np.float16
    for length in (12, 290, 40, 300):
        other.restore(positions, length)
        assert np.array_equal(other.cache.positions(length), positions[:, :, :, :, :length])
        assert close(session.run(other, TOKEN_IDS[length : length + 3], 3), expected[length : length + 3])
    other.clear()
    assert not other.cache.positions(0).size
    assert close(session.run(other, TOKEN_IDS[:5], 5), expected[:5])


def test_a_step_without_room_is_an_error_and_the_session_goes_on(session: Session, expected: Array) -> None:
    slots = session.new_slots(2, 600, 400)
    session.run(slots[0], TOKEN_IDS[:300])
    session.run(slots[0], TOKEN_IDS[300:400])
    with pytest.raises(RuntimeFailed, match="need 2 more blocks of 256, 1 of 3 are free"):
        session.run(slots[1], TOKEN_IDS[:300])
    assert close(session.run(slots[1], TOKEN_IDS[:200]), expected[199:200])
    slots[0].clear()
    session.run(slots[1], TOKEN_IDS[200:400])
    assert close(session.run(slots[1], TOKEN_IDS[400:410]), expected[409:410])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(2, 4),
    with_prefix=st.booleans(),
    keep_prompts=st.booleans(),
    lengths=st.lists(st.integers(1, 60), min_size=2, max_size=6),
)
def test_the_engine_gives_each_request_what_it_gives_it_alone(
    session: Session, bundle: Bundle, count: int, with_prefix: bool, keep_prompts: bool, lengths: list[int]
) -> None:
    manifest = replace(bundle.manifest, prompts={RUBRIC: replace(bundle.manifest.prompt, stop_ids=())})
    prefix = compute_prefix(session, TOKEN_IDS[:40]) if with_prefix else None
    prompts = [TOKEN_IDS[: 40 + length] if length % 3 else TOKEN_IDS[length : 2 * length] for length in lengths]

    def engine(most: int) -> Engine:
        return Engine(session, manifest, prefix, EngineOptions(max_concurrency=most, keep_prompts=keep_prompts))

    alone = []
    for prompt in prompts:
        sequence = engine(1).submit(prompt, GenerationOptions(max_new_tokens=4))
        sequence.wait()
        sequence.raise_error()
        alone.append(sequence.token_ids)
    several = engine(count)
    sequences = [several.submit(prompt, GenerationOptions(max_new_tokens=4)) for prompt in prompts]
    for sequence, tokens in zip(sequences, alone, strict=True):
        sequence.wait()
        sequence.raise_error()
        assert sequence.token_ids == tokens


# --- which graph runs


def test_it_is_skipped_where_its_device_is_not(bundle: Bundle) -> None:
    on_cpu = replace(bundle.manifest.graphs[0], target="cpu")
    kernels = find_kernels()
    chosen = choose_graph(bundle.manifest.graphs, "cuda", lambda _: None, "bundle", kernels)
    assert (chosen.graph.file, chosen.device) == ("model.step.onnx", "cuda")
    with pytest.raises(Exception, match="kv_update 'paged' is none of slots, shared, concatenate for the target cpu"):
        choose_graph([on_cpu], "cpu", lambda _: None, "bundle", kernels)
