"""The decoder's graph: its contract with every runtime, its weights, and what it computes."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto
from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.checkpoint.files import read_header
from rubricrm_export.checkpoint.tensor import CheckpointTensor
from rubricrm_export.errors import CheckpointUnsupported
from rubricrm_export.graph.kv_storage import KVStorage
from rubricrm_export.graph.rotary import rotary_tables
from rubricrm_export.graph.rounded_weights import RoundedWeights
from rubricrm_export.graph.streamed_tensor import StreamedTensor
from rubricrm_export.graph.writer import author_graph
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from rubricrm_export.quantize.scheme import Scheme
from safetensors.numpy import load_file, save_file

MakeCheckpoint = Callable[..., Path]
Array = NDArray[Any]

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
NUMPY_TYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
ONNX_TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
NUM_LAYERS, KV_HEADS, HEAD_DIM, VOCAB = 2, 2, 32, 272


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Path]:
    """A function that exports a checkpoint and returns the path of its graph."""

    def make(checkpoint: Path, *, name: str = "bundle", **options: Any) -> Path:
        return export_onnx(OnnxExport(str(checkpoint), tmp_path / name, **options)).path / "model.onnx"

    return make


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(
    graph: onnxruntime.InferenceSession, ids: list[list[int]], mask: list[list[int]] | None = None, **inputs: Array
) -> Array:
    """Run a prompt without a past and return its logits [batch, rows, vocab]."""
    feed: dict[str, Array] = {"input_ids": np.array(ids, np.int64)}
    feed["attention_mask"] = np.ones_like(feed["input_ids"]) if mask is None else np.array(mask, np.int64)
    for value in graph.get_inputs():
        if value.name.startswith("past_key_values"):
            _, heads, _, head_dim = value.shape
            feed[value.name] = np.zeros((len(ids), heads, 0, head_dim), np.float32)
    logits: Array = graph.run(["logits"], feed | inputs)[0]
    return logits


def random_ids(length: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(5, 261, length)]


def relative_error(got: Array, expected: Array) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


# --- the contract


def signature(values: Any) -> dict[str, tuple[int, list[str | int]]]:
    return {
        v.name: (v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in values
    }


@pytest.mark.parametrize(
    ("weights", "device", "kv"),
    [
        ("fp32", "cpu", TensorProto.FLOAT),
        ("fp16", "cpu", TensorProto.FLOAT),
        ("bf16", "cpu", TensorProto.FLOAT),
        ("fp16", "cuda", TensorProto.FLOAT16),
        ("bf16", "cuda", TensorProto.BFLOAT16),
    ],
)
def test_names_types_and_shapes(
    make_checkpoint: MakeCheckpoint, export: Callable[..., Path], weights: str, device: str, kv: int
) -> None:
    path = export(make_checkpoint(), weights=weights, target=device)
    onnx.checker.check_model(path, full_check=False)
    model = onnx.load(path, load_external_data=False)
    assert {o.domain: o.version for o in model.opset_import} == {"": 23, "com.microsoft": 1}
    past = ["batch_size", KV_HEADS, "past_sequence_length", HEAD_DIM]
    present = ["batch_size", KV_HEADS, "total_sequence_length", HEAD_DIM]
    halves = [f"{layer}.{half}" for layer in range(NUM_LAYERS) for half in ("key", "value")]
    assert signature(model.graph.input) == {
        "input_ids": (TensorProto.INT64, ["batch_size", "sequence_length"]),
        "attention_mask": (TensorProto.INT64, ["batch_size", "total_sequence_length"]),
        **{f"past_key_values.{half}": (kv, past) for half in halves},
        "num_logits": (TensorProto.INT64, [1]),
    }
    assert signature(model.graph.output) == {
        "logits": (TensorProto.FLOAT, ["batch_size", "num_rows", VOCAB]),
        **{f"present.{half}": (kv, present) for half in halves},
    }
    stored = {i.name: i.data_type for i in model.graph.initializer if i.name.endswith(".weight")}
    assert set(stored.values()) == {ONNX_TYPES[weights], kv}
    # Norms are stored as they are computed with.
    assert {kind for name, kind in stored.items() if "norm" not in name} == {ONNX_TYPES[weights]}
    assert {kind for name, kind in stored.items() if "norm" in name} == {kv}
    tables = {i.name: i.data_type for i in model.graph.initializer if i.name.endswith("_cache")}
    assert tables == {"cos_cache": kv, "sin_cache": kv}


@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
def test_nodes_have_unique_names(
    make_checkpoint: MakeCheckpoint, export: Callable[..., Path], architecture: str
) -> None:
    graph = onnx.load(export(make_checkpoint(architecture)), load_external_data=False).graph
    names = [node.name for node in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    norms = [name for name in names if "q_norm" in name or "k_norm" in name]
    assert bool(norms) is (architecture == "Qwen3ForCausalLM")


def test_large_tensors_lie_on_pages_and_small_ones_inline(
    make_checkpoint: MakeCheckpoint, export: Callable[..., Path]
) -> None:
    path = export(make_checkpoint())
    data_bytes = (path.parent / "model.onnx.data").stat().st_size
    spans = []
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        external = {entry.key: entry.value for entry in tensor.external_data}
        if not external:
            assert len(tensor.SerializeToString()) < 2048
            continue
        assert external["location"] == "model.onnx.data"
        offset, length = int(external["offset"]), int(external["length"])
        assert tensor.data_type not in (TensorProto.INT64, TensorProto.INT32)
        assert offset % 4096 == 0 or length <= 4096
        spans.append((offset, offset + length))
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] == data_bytes


def test_graph_holds_no_path(make_checkpoint: MakeCheckpoint, export: Callable[..., Path], tmp_path: Path) -> None:
    path = export(make_checkpoint())
    for file in path.parent.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
        assert str(Path.home()).encode() + b"/" not in file.read_bytes()


def test_table_of_rotary_positions() -> None:
    architecture = Architecture.from_config(
        {
            "architectures": ["Qwen3ForCausalLM"],
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "num_hidden_layers": 1,
            "head_dim": 16,
            "vocab_size": 9,
            "max_position_embeddings": 40960,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
        },
        "config.json",
    )
    cos, sin = rotary_tables(architecture)
    assert cos.shape == sin.shape == (40960, 8)
    exact = np.outer(np.arange(40960), 1e6 ** (-np.arange(0, 16, 2) / 16.0))
    # Angles are float32: half a unit in the last place of 40,959 is 0.002.
    np.testing.assert_allclose(cos, np.cos(exact), atol=4e-3)
    np.testing.assert_allclose(sin, np.sin(exact), atol=4e-3)
    # Whatever the processor: the C library's functions in float64, rounded.
    base = float(np.float32(1e6))
    frequencies = 1 / np.array([base ** (channel / 16) for channel in range(0, 16, 2)], np.float32)
    for position in (1, 77, 2047, 40959):
        angles = np.float32(position) * frequencies
        assert cos[position].tolist() == [np.float32(math.cos(angle)) for angle in angles]
        assert sin[position].tolist() == [np.float32(math.sin(angle)) for angle in angles]
    assert (cos[0] == 1).all()
    assert (sin[0] == 0).all()


# --- the weights


@pytest.mark.parametrize("weights", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
def test_stored_weights_are_the_checkpoints(
    make_checkpoint: MakeCheckpoint, export: Callable[..., Path], architecture: str, dtype: str, weights: str
) -> None:
    checkpoint = make_checkpoint(architecture, dtype=dtype, shards=2)
    expected = {n: t for shard in checkpoint.glob("*.safetensors") for n, t in load_file(shard).items()}
    model = onnx.load(export(checkpoint, weights=weights))
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer if i.name.endswith(".weight")}
    assert set(stored) == set(expected)
    for name, tensor in expected.items():
        # Verbatim where the types agree, rounded to nearest where they do not.
        wanted = tensor.astype(np.float32)
        if "norm" not in name:
            wanted = wanted.astype(NUMPY_TYPES[weights])
        assert stored[name].dtype == wanted.dtype
        assert stored[name].tobytes() == wanted.tobytes()
        if wanted.dtype == tensor.dtype:
            assert stored[name].tobytes() == tensor.tobytes()


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_default_is_the_checkpoints_own_type(
    make_checkpoint: MakeCheckpoint, export: Callable[..., Path], dtype: str
) -> None:
    model = onnx.load(export(make_checkpoint(dtype=dtype)), load_external_data=False)
    kinds = {i.data_type for i in model.graph.initializer if i.name.endswith("_proj.weight")}
    assert kinds == {{"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}[dtype]}


def streamed(path: Path, array: Array, dtype: ir.DataType) -> StreamedTensor:
    save_file({"model.norm.weight": array}, path / "one.safetensors")
    return StreamedTensor(read_header(path / "one.safetensors")["model.norm.weight"], dtype)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(65520.0, "65520"), (-1e30, "-1e"), (3.4e38, "3.4e")],
    ids=["least", "negative", "most"],
)
def test_number_beyond_fp16_is_refused_by_name(tmp_path: Path, value: float, shown: str) -> None:
    tensor = streamed(tmp_path, np.array([1.0, value, 0.0], np.float32), ir.DataType.FLOAT16)
    with (
        pytest.raises(CheckpointUnsupported, match=rf"model\.norm\.weight: holds {shown}.*, beyond 65504, .*bf16"),
        (tmp_path / "data").open("wb") as file,
    ):
        tensor.tofile(file)


def test_number_that_rounds_to_infinity_in_bf16_is_refused(tmp_path: Path) -> None:
    largest = float(np.finfo(np.float32).max)
    tensor = streamed(tmp_path, np.array([1.0, -largest], np.float32), ir.DataType.BFLOAT16)
    with pytest.raises(CheckpointUnsupported, match=r"holds -3\.40282e\+38, beyond 3\.38953e\+38.* bfloat16.* fp32"):
        tensor.numpy()


@pytest.mark.parametrize(
    "values", [[65504.0, -65504.0], [65519.0, 1e-9], [0.0, -0.0]], ids=["largest", "rounded", "zeros"]
)
def test_what_fp16_holds_is_kept(tmp_path: Path, values: list[float]) -> None:
    array = np.array(values, np.float32)
    tensor = streamed(tmp_path, array, ir.DataType.FLOAT16)
    with (tmp_path / "data").open("wb") as file:
        tensor.tofile(file)
    with np.errstate(over="ignore"):
        expected = array.astype(np.float16)
    assert (tmp_path / "data").read_bytes() == expected.tobytes() == tensor.numpy().tobytes()


def test_streaming_in_blocks_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(tensor: CheckpointTensor, _: int) -> Iterator[Array]:
        return (tensor.rows(start, start + 1) for start in range(tensor.shape[0]))

    monkeypatch.setattr(CheckpointTensor, "chunks", rows)
    array = np.random.default_rng(0).standard_normal((37, 5), dtype=np.float32)
    tensor = streamed(tmp_path, array, ir.DataType.BFLOAT16)
    with (tmp_path / "data").open("wb") as file:
        tensor.tofile(file)
    assert (tmp_path / "data").read_bytes() == array.astype(ml_dtypes.bfloat16).tobytes()


# --- what it computes


@pytest.mark.parametrize(
    ("weights", "tolerance"),
    # Three times the most that was measured on these two models with five prompts each: 3.6e-3 and 2.1e-2.
    # Their weights are random: nothing that a rounding changed is outweighed, as it is in a trained model.
    [("fp32", 0.0), ("fp16", 1.1e-2), ("bf16", 6.3e-2)],
)
@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "LlamaForCausalLM"])
def test_logits_of_each_stored_type(
    make_checkpoint: MakeCheckpoint, export: Callable[..., Path], architecture: str, weights: str, tolerance: float
) -> None:
    checkpoint = make_checkpoint(architecture, dtype="F32")
    ids = [random_ids(50)]
    exact = run(open_graph(export(checkpoint, name="exact", weights="fp32")), ids)
    got = run(open_graph(export(checkpoint, weights=weights)), ids)
    assert got.dtype == np.float32
    assert relative_error(got, exact) <= tolerance


@pytest.mark.parametrize("tie", ["tied", "tied, both stored", "tied, head alone stored", "untied"])
def test_head(make_checkpoint: MakeCheckpoint, export: Callable[..., Path], tie: str) -> None:
    def change(tensors: dict[str, Array]) -> None:
        if tie == "tied, both stored":
            tensors[HEAD] = tensors[EMBEDDING].copy()
        elif tie == "tied, head alone stored":
            tensors[HEAD] = tensors.pop(EMBEDDING)
        elif tie == "untied":
            tensors[HEAD] = -tensors[EMBEDDING]

    tied = make_checkpoint(name="reference")
    checkpoint = make_checkpoint(change=change, tie_word_embeddings=tie != "untied")
    path = export(checkpoint)
    matrices = [i.name for i in onnx.load(path, load_external_data=False).graph.initializer if VOCAB in i.dims]
    assert len(matrices) == (2 if tie == "untied" else 1)
    expected = run(open_graph(export(tied, name="tied")), [random_ids(20)])
    np.testing.assert_array_equal(run(open_graph(path), [random_ids(20)]), -expected if tie == "untied" else expected)


def test_num_logits_gives_the_last_rows(tiny_bundle: Path) -> None:
    graph, ids = open_graph(tiny_bundle / "model.onnx"), [random_ids(30)]
    every = run(graph, ids)
    assert every.shape == (1, 30, VOCAB)
    for count in (1, 2, 7, 30, 31, 2**40):
        tail = run(graph, ids, num_logits=np.array([count], np.int64))
        assert tail.shape == (1, min(count, 30), VOCAB)
        # The same numbers, up to the order in which a matrix of another height is summed.
        np.testing.assert_allclose(tail, every[:, -min(count, 30) :], rtol=0, atol=2e-6)


def test_num_logits_is_optional(tiny_bundle: Path) -> None:
    graph = open_graph(tiny_bundle / "model.onnx")
    assert [value.name for value in graph.get_overridable_initializers()] == ["num_logits"]
    assert "num_logits" not in [value.name for value in graph.get_inputs()]


@pytest.mark.parametrize("lengths", [(9, 4), (1, 12), (5, 5)])
def test_rows_of_a_padded_batch_are_those_of_single_runs(tiny_bundle: Path, lengths: tuple[int, int]) -> None:
    graph = open_graph(tiny_bundle / "model.onnx")
    rows = [random_ids(length, seed) for seed, length in enumerate(lengths)]
    longest = max(lengths)
    padded = [row + [0] * (longest - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    logits = run(graph, padded, mask)
    for row, got in zip(rows, logits, strict=True):
        np.testing.assert_allclose(got[: len(row)], run(graph, [row])[0], rtol=0, atol=5e-6)


def test_padding_tokens_do_not_matter(tiny_bundle: Path) -> None:
    graph, row = open_graph(tiny_bundle / "model.onnx"), random_ids(6)
    mask = [[1] * 6 + [0] * 3]
    left, right = (run(graph, [row + [filler] * 3], mask)[0, :6] for filler in (0, 200))
    np.testing.assert_array_equal(left, right)


def test_one_token_at_a_time_equals_the_whole_prompt(tiny_bundle: Path) -> None:
    graph, ids = open_graph(tiny_bundle / "model.onnx"), random_ids(12)
    caches = [value.name for value in graph.get_inputs() if value.name.startswith("past")]
    outputs = ["logits", *(name.replace("past_key_values", "present") for name in caches)]
    past = {name: np.zeros((1, KV_HEADS, 0, HEAD_DIM), np.float32) for name in caches}
    rows = []
    for position, token in enumerate(ids):
        feed = {"input_ids": np.array([[token]]), "attention_mask": np.ones((1, position + 1), np.int64)}
        logits, *present = graph.run(outputs, feed | past)
        past = dict(zip(caches, present, strict=True))
        rows.append(logits[0, 0])
    np.testing.assert_allclose(np.stack(rows), run(graph, [ids])[0], rtol=0, atol=5e-6)


def test_fp16_graph_of_the_cuda_target_computes_in_fp16(
    make_checkpoint: MakeCheckpoint, export: Callable[..., Path]
) -> None:
    graph = onnx.load(export(make_checkpoint(), weights="fp16", target="cuda"), load_external_data=False).graph
    kinds = {node.op_type for node in graph.node}
    casts = [a.i for node in graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"]
    assert "GroupQueryAttention" in kinds
    # Lengths become int32, logits float32; no weight is cast.
    assert sorted(casts) == sorted([TensorProto.INT32, TensorProto.INT32, TensorProto.FLOAT])


@pytest.mark.parametrize("weights", ["bf16", "int4", "int8", "fp8"])
def test_checkpoint_is_not_read_while_the_graph_is_built(make_checkpoint: MakeCheckpoint, weights: str) -> None:
    with Checkpoint.open(make_checkpoint()) as checkpoint:
        (checkpoint.path / "model.safetensors").unlink()
        scheme = Scheme.of("cpu", "bf16", weights=weights)
        source = RoundedWeights(checkpoint, scheme, ir.DataType.FLOAT, threads=1)
        model = author_graph(checkpoint, scheme, source, KVStorage(ir.DataType.FLOAT))
    assert {value.name for value in model.graph.outputs} >= {"logits", "present.0.key"}
