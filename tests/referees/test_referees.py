"""What we write against the tools that its readers come with: nvidia-modelopt and TensorRT Edge-LLM, on the CPU.

Both live in an environment of their own (`make test-referees`); RUBRICRM_REFEREES is its Python.
"""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from decoder_reference import read_directory, read_unified
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from rubricrm_export.tensorrt.directory import TensorRTDirectory
from rubricrm_export.tensorrt.job import TensorRTExport
from rubricrm_export.tensorrt_build.export import export_tensorrt
from short_texts import CALIBRATION

MakeCheckpoint = Callable[..., Path]
Array = NDArray[Any]

PYTHON = os.environ.get("RUBRICRM_REFEREES", "")
HERE = Path(__file__).parent
IDS = [5 + byte for byte in CALIBRATION.encode()]  # of the tokenizer of the tiny checkpoints
WIDE = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64}
SAME_INPUTS = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj"))

pytestmark = [
    pytest.mark.referee,
    pytest.mark.skipif(not PYTHON, reason="RUBRICRM_REFEREES is not set: run `make test-referees`"),
]


def run_referee(*words: object) -> None:
    result = subprocess.run([PYTHON, *map(str, words)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


def export(checkpoint: Path, reader: str, weights: str, **options: Any) -> TensorRTDirectory:
    text = checkpoint.parent / "text.txt"
    text.write_text(CALIBRATION)
    target = checkpoint.parent / f"{reader}-{weights}"
    return export_tensorrt(TensorRTExport(str(checkpoint), target, reader, weights, calibration=str(text), **options))


# --- nvidia-modelopt


def test_fp8_is_modelopts(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """The same tensors: names, types, shapes; scales of inputs to float32; bytes where the scales are the same.

    Two differences are meant. Weights that share their inputs share a scale (a reader that joins them takes the
    largest, and rounds the others a second time). Scales of keys and values are a fifth larger, and those of keys
    also cover what rotation makes of them at other positions.
    """
    checkpoint = make_checkpoint(torch_dtype="bfloat16", **WIDE)
    directory = export(checkpoint, "vllm", "fp8", kv="fp8")
    (tmp_path / "ids.json").write_text(json.dumps([IDS[:512]]))
    run_referee(HERE / "modelopt_quantize.py", checkpoint, "fp8-kv", tmp_path / "ids.json", tmp_path / "theirs")
    ours, theirs = read_directory(directory.path), read_directory(tmp_path / "theirs")
    facts = [{name: (t.dtype, t.shape) for name, t in tensors.items()} for tensors in (ours, theirs)]
    assert facts[0] == facts[1]
    for name, tensor in ours.items():
        if name.endswith(("input_scale", "k_scale", "v_scale")):
            low, high = RATIOS[name.rsplit(".", 1)[1]]
            assert low <= float(tensor) / float(theirs[name]) <= high
        elif not name.endswith(("weight_scale", "proj.weight")):
            assert (tensor == theirs[name]).all()
    assert_weights_agree(ours, theirs)
    for file, key in (("hf_quant_config.json", "quantization"), ("config.json", "quantization_config")):
        found = [json.loads((path / file).read_text())[key] for path in (directory.path, tmp_path / "theirs")]
        assert without_producer(found[0]) == without_producer(found[1])


# Activations are in bfloat16 there, in float32 here.
RATIOS = {"input_scale": (0.98, 1.02), "k_scale": (1.18, 1.2 * 2**0.5 * 1.02), "v_scale": (1.18, 1.22)}


def without_producer(quantized: dict[str, Any]) -> dict[str, Any]:
    excluded = {key: quantized[key] for key in ("exclude_modules", "ignore") if key in quantized}
    # Newer versions also name the embedding, which is no product.
    linear = {key: [name for name in names if name != "model.embed_tokens"] for key, names in excluded.items()}
    return {**{key: value for key, value in quantized.items() if key != "producer"}, **linear}


def assert_weights_agree(ours: dict[str, Array], theirs: dict[str, Array]) -> None:
    same = 0
    for name in (name for name in ours if name.endswith("proj.weight")):
        scales = [float(tensors[f"{name}_scale"]) for tensors in (ours, theirs)]
        if scales[0] == scales[1]:
            same += 1
            codes = [tensors[name].astype(np.float32) for tensors in (ours, theirs)]
            is_equal = codes[0] == codes[1]
            # They divide in bfloat16, we in float32: what lies between two numbers may fall to either.
            assert is_equal.mean() > 0.9
            np.testing.assert_allclose(codes[0], codes[1], rtol=0.13, atol=2**-9)
        else:
            assert scales[0] > scales[1]
    assert same >= 2 * 4  # o, down, and the largest of q, k, v and of gate, up in each of two layers


@pytest.mark.parametrize(
    ("reader", "weights", "algorithm"),
    [
        ("tensorrt-llm", "fp8", "FP8"),
        ("tensorrt-llm", "int8", "W8A16"),
        ("edge-llm", "int8", "W8A8_SQ_PER_CHANNEL"),
        ("tensorrt-llm", "int4", "W4A16_AWQ"),
    ],
)
def test_bytes_are_those_of_modelopts_own_functions(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, reader: str, weights: str, algorithm: str
) -> None:
    checkpoint = make_checkpoint(dtype="F32", torch_dtype="float32", **WIDE)
    directory = export(checkpoint, reader, weights, method="rtn")
    run_referee(HERE / "modelopt_store.py", checkpoint, directory.path, algorithm, tmp_path / "theirs.safetensors")
    ours, theirs = read_directory(directory.path), read_directory(tmp_path)
    assert len(theirs) == 14
    for name, tensor in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (tensor.dtype, tensor.shape)
        assert (ours[name].view(np.uint8) == tensor.view(np.uint8)).all()


# --- TensorRT Edge-LLM


class AttentionPlugin(OpRun):
    """Edge-LLM's attention on one sequence without a past: norms of heads, rotation, attention."""

    op_domain = "trt_edgellm"
    theta: ClassVar[float] = 1e6
    scales: ClassVar[list[list[float]]] = []

    def _run(self, qkv: Array, past: Array, *inputs: Array, **facts: Any) -> tuple[Array, Array]:
        heads, kv_heads, size = facts["num_q_heads"], facts["num_kv_heads"], facts["head_size"]
        self.scales.append([*facts["qkv_scales"], facts["enable_fp8_kv_cache"]])
        assert (facts["enable_qk_norm"], facts["qk_norm_post_rope"], facts["sliding_window_size"]) == (1, 0, -1)
        assert facts["attention_scale"] == pytest.approx(size**-0.5)
        x = qkv.astype(np.float64).reshape(-1, heads + 2 * kv_heads, size)
        q, k, v = np.split(x, [heads, heads + kv_heads], axis=1)
        decoder = DECODER[0]
        q, k = (decoder.norm(part, inputs[place].astype(np.float64)) for part, place in ((q, 4), (k, 5)))
        q, k = decoder.rotate(q), decoder.rotate(k)
        k, v = (np.repeat(part, heads // kv_heads, axis=1) for part in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) * facts["attention_scale"]
        scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        output = np.einsum("hqk,khd->qhd", shares, v)  # the graph's next node gives it its shape
        return output.astype(np.float16), past


class Int4GroupwiseGemmPluginV2(OpRun):
    """Edge-LLM's INT4 product, with the matrix that its own packing gave."""

    op_domain = "trt_edgellm"
    matrices: ClassVar[dict[str, Array]] = {}

    def _run(self, x: Array, *_: Array, **__: Any) -> tuple[Array]:
        return ((x.astype(np.float32) @ self.matrices[self.onnx_node.output[0]].T).astype(np.float16),)


class QkvConcatPlugin(OpRun):
    """Puts queries, keys and values side by side."""

    op_domain = "trt_edgellm"

    def _run(self, *parts: Array, **_: Any) -> tuple[Array]:
        return (np.concatenate(parts, axis=-1),)


DECODER: list[Any] = []


def edge_graph(directory: TensorRTDirectory, tmp_path: Path) -> onnx.ModelProto:
    run_referee(Path(PYTHON).with_name("tensorrt-edgellm-export"), directory.path, tmp_path / "onnx")
    return onnx.load(tmp_path / "onnx" / "llm" / "model.onnx")


def run_graph(model: onnx.ModelProto, tmp_path: Path, ids: list[int]) -> Array:
    from safetensors.numpy import load_file

    embedding = load_file(tmp_path / "onnx" / "llm" / "embedding.safetensors")["embedding"]
    feed: dict[str, Array] = {}
    for value in model.graph.input:
        shape = [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]
        feed[value.name] = np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    feed["inputs_embeds"] = embedding[ids]
    feed["logits_indices"] = np.arange(len(ids), dtype=np.int64)
    operators = [AttentionPlugin, Int4GroupwiseGemmPluginV2, QkvConcatPlugin]
    return ReferenceEvaluator(model, new_ops=operators).run(["logits"], feed)[0]


def without_rounded_inputs(model: onnx.ModelProto) -> dict[str, float]:
    """Take the rounding of inputs out of a graph, and return its scales by their names.

    With it FP16 and float64 cannot be compared: what lies between two FP8 numbers falls to either.
    """
    values = {
        tensor.name: float(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer if not tensor.dims
    }
    scales, rounded = {}, set()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scales[node.input[1].removeprefix("_model.")] = values[node.input[1]]
            rounded.add(node.output[0])
        elif node.op_type != "DequantizeLinear" or node.input[0] not in rounded:
            continue
        node.op_type = "Identity"
        del node.input[1:], node.attribute[:]
    return scales


PRODUCTS = ("q", "k", "v", "o", "gate", "up", "down")
EDGE = [
    ("fp16", "model", "model", {}),
    ("fp8", "model", "model", {"QuantizeLinear": 8}),
    ("fp8", "fp8", "fp8", {"QuantizeLinear": 9}),
    ("int8", "model", "model", {"QuantizeLinear": 8}),
    ("int4", "model", "model", {"Int4GroupwiseGemmPluginV2": 14}),
    ("int4", "model", "int4", {"Int4GroupwiseGemmPluginV2": 15}),
    ("int8", "fp8", "model", {"QuantizeLinear": 8}),
    ("fp16", "fp8", "model", {"QuantizeLinear": 0}),
]


@pytest.mark.parametrize(("weights", "kv", "head", "expected"), EDGE)
def test_graph_by_edge_llm_computes_our_model(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, weights: str, kv: str, head: str, expected: dict[str, int]
) -> None:
    """The graph has a rounding of inputs for each product's inputs, one where several share them, and our logits."""
    directory = export(make_checkpoint(vocab_size=384, **WIDE), "edge-llm", weights, kv=kv, head=head)
    model = edge_graph(directory, tmp_path)
    counts = Counter(node.op_type for node in model.graph.node)
    assert {name: counts[name] for name in expected} == expected
    if weights == "int4":
        run_referee(HERE / "edge_int4.py", tmp_path / "onnx" / "llm" / "model.onnx", tmp_path / "int4.npz")
        Int4GroupwiseGemmPluginV2.matrices = dict(np.load(tmp_path / "int4.npz"))
    decoder = read_unified(directory.path)
    for matrix in [decoder.head, *(layer[part] for layer in decoder.layers for part in PRODUCTS)]:
        matrix.round_input = None
    DECODER[:] = [decoder]
    AttentionPlugin.scales.clear()
    tensors = read_directory(directory.path)
    for name, scale in without_rounded_inputs(model).items():
        assert scale == pytest.approx(float(tensors[name]), rel=2**-10)  # FP16 in the graph
    got, exact = run_graph(model, tmp_path, IDS[:40]), decoder.logits(IDS[:40])
    assert np.linalg.norm(got - exact) / np.linalg.norm(exact) < 0.01  # FP16 throughout
    for layer, scales in enumerate(AttentionPlugin.scales):
        if kv == "fp8":
            stated = [float(tensors[f"model.layers.{layer}.self_attn.{part}_proj.{part}_scale"]) for part in "kv"]
            assert scales == pytest.approx([1.0, *stated, 1])
        else:
            assert scales[-1] == 0
