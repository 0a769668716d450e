"""The operators of domain rubricrm beside ONNX Runtime's own, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rubricrm.errors import RuntimeFailed
from rubricrm.runtime.data_layout import pack_codes, pack_scales, pack_zero_points
from rubricrm.runtime.graph import import_onnxruntime, open_graph
from rubricrm.runtime.kernels import find_kernels

KERNELS = find_kernels()
pytestmark = [
    pytest.mark.skipif(KERNELS.library is None, reason=f"no library of kernels ({KERNELS.problem})"),
    pytest.mark.usefixtures("all_cores"),
]
DOMAINS = {"": 23, "com.microsoft": 1, "rubricrm": 1}
Array = NDArray[Any]


def open_nodes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[Any]]],
    outputs: Sequence[str],
    constants: Mapping[str, Array],
) -> Any:
    """Open a graph of nodes: inputs by their element types and shapes, constants, float outputs."""
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *facts) for name, facts in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in DOMAINS.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=11)
    return open_graph(model.SerializeToString(), threads=2, library=KERNELS.library)


class Matrix:
    """A random matrix in blocks, in both layouts."""

    def __init__(self, rows: int, width: int, bits: int, block: int, *, zero_points: bool, seed: int = 0) -> None:
        numbers, blocks = np.random.default_rng(seed), -(-width // block)
        codes = numbers.integers(0, 1 << bits, (rows, blocks * block), dtype=np.uint8)
        packed = codes if bits == 8 else codes[:, 0::2] | codes[:, 1::2] << 4
        scales = (numbers.random((rows, blocks)) * 0.01 + 0.001).astype(np.float16).astype(np.float32)
        zeros = numbers.integers(0, 1 << bits, (rows, blocks + blocks % 2), dtype=np.uint8)
        zeros[:, blocks:] = 0
        self.bits, self.shape, self.block = bits, (rows, width), block
        self.constants = {"codes": packed.reshape(rows, blocks, -1), "scales": scales}
        if zero_points:
            narrow = zeros[:, :blocks] if bits == 8 else zeros[:, 0::2] | zeros[:, 1::2] << 4
            self.constants["zero_points"] = np.ascontiguousarray(narrow)
        tiles = -(-rows // 64)
        shape = tiles, blocks * block * bits // 32, 64, 4
        made = {
            "packed": pack_codes(self.constants["codes"], shape),
            "packed_scales": pack_scales(scales, (tiles, blocks, 64)),
        }
        if zero_points:
            made["packed_zero_points"] = pack_zero_points(self.constants["zero_points"], (tiles, blocks, 64))
        self.constants |= {name: np.ascontiguousarray(array) for name, array in made.items()}
        self.constants["packed"] = self.constants["packed"].view(np.uint8).reshape(shape)
        values = codes.astype(np.float32).reshape(rows, blocks, block)
        middle = zeros[:, :blocks, None].astype(np.float32) if zero_points else np.float32(1 << (bits - 1))
        self.floats: Array = ((values - middle) * scales[..., None]).reshape(rows, -1)[:, :width]

    def names(self, *parts: str) -> list[str]:
        return [name for name in parts if name in self.constants]

    @property
    def attributes(self) -> dict[str, int]:
        return {"N": self.shape[0], "K": self.shape[1], "block_size": self.block}

    def product(self, *, exact: bool = False, **changes: Any) -> onnx.NodeProto:
        names = self.names("packed", "packed_scales", "packed_zero_points")
        attributes = self.attributes | {"exact_inputs": int(exact)} | changes
        return helper.make_node(f"MatMulInt{self.bits}", ["x", *names], ["ours"], domain="rubricrm", **attributes)

    def runtimes(self, *, exact: bool = False) -> onnx.NodeProto:
        names = self.names("codes", "scales", "zero_points")
        attributes = self.attributes | {"bits": self.bits, "accuracy_level": 1 if exact else 4}
        return helper.make_node("MatMulNBits", ["x", *names], ["theirs"], domain="com.microsoft", **attributes)


def distance(got: Array, expected: Array) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@settings(max_examples=60)
@given(
    rows=st.integers(1, 200),
    width=st.integers(1, 300),
    bits=st.sampled_from((4, 8)),
    block=st.sampled_from((32, 64, 128)),
    zero_points=st.booleans(),
    exact=st.booleans(),
    count=st.integers(0, 15),
    seed=st.integers(0, 1000),
)
def test_products_are_the_runtimes(
    rows: int, width: int, bits: int, block: int, zero_points: bool, exact: bool, count: int, seed: int
) -> None:
    matrix = Matrix(rows, width, bits, block, zero_points=zero_points, seed=seed)
    inputs = {"x": (TensorProto.FLOAT, [1, "rows", width])}
    graph = open_nodes(
        [matrix.product(exact=exact), matrix.runtimes(exact=exact)], inputs, ["ours", "theirs"], matrix.constants
    )
    x = np.random.default_rng(seed).standard_normal((1, count, width)).astype(np.float32)
    ours, theirs = graph.run(None, {"x": x})
    assert ours.shape == (1, count, rows)
    if count:
        # Where the exact product of a row is nearly zero the largest of its terms is the measure.
        size = np.abs(x) @ np.abs(matrix.floats).T
        assert (np.abs(ours - theirs) <= 1e-5 * np.maximum(np.abs(theirs).max(), size.max() * 0.1)).all()
        # A row's bits are those that it has alone.
        row = count // 2
        (alone,) = graph.run(["ours"], {"x": x[:, row : row + 1]})
        assert alone.tobytes() == ours[:, row : row + 1].tobytes()


@pytest.mark.parametrize("bits", [4, 8])
def test_gated_product(bits: int) -> None:
    gate, up = (Matrix(130, 96, bits, 32, zero_points=True, seed=seed) for seed in (1, 2))
    names = ("packed", "packed_scales", "packed_zero_points")
    constants = {f"{part}.{name}": m.constants[name] for part, m in (("gate", gate), ("up", up)) for name in names}
    order = ["gate.packed", "gate.packed_scales", "up.packed", "up.packed_scales"]
    order += ["gate.packed_zero_points", "up.packed_zero_points"]
    attributes = gate.attributes | {"exact_inputs": 1}
    node = helper.make_node(f"GatedMatMulInt{bits}", ["x", *order], ["ours"], domain="rubricrm", **attributes)
    graph = open_nodes([node], {"x": (TensorProto.FLOAT, ["rows", 96])}, ["ours"], constants)
    x = np.random.default_rng(3).standard_normal((7, 96)).astype(np.float32)
    gated = x.astype(np.float64) @ gate.floats.T
    expected = gated / (1 + np.exp(-gated)) * (x @ up.floats.T)
    (ours,) = graph.run(None, {"x": x})
    assert distance(ours, expected) < 1e-5


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero_points", [True, False])
def test_rows_of_a_table(bits: int, zero_points: bool) -> None:
    table = Matrix(150, 72, bits, 32, zero_points=zero_points)
    names = table.names("packed", "packed_scales", "packed_zero_points")
    node = helper.make_node(f"GatherInt{bits}", ["ids", *names], ["ours"], domain="rubricrm", **table.attributes)
    graph = open_nodes([node], {"ids": (TensorProto.INT64, ["count"])}, ["ours"], table.constants)
    ids = np.array([149, 0, 63, 64, 64], np.int64)
    assert (graph.run(None, {"ids": ids})[0] == table.floats[ids]).all()
    for wrong in (-1, 150):
        with pytest.raises(Exception, match=rf"GatherInt{bits}: id {wrong} at place 1, expected 0 to 149"):
            graph.run(None, {"ids": np.array([1, wrong], np.int64)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_none(value: float) -> None:
    matrix = Matrix(70, 64, 4, 32, zero_points=True)
    graph = open_nodes([matrix.product()], {"x": (TensorProto.FLOAT, ["rows", 64])}, ["ours"], matrix.constants)
    x = np.ones((3, 64), np.float32)
    (sound,) = graph.run(None, {"x": x})
    x[1, 40] = value
    (found,) = graph.run(None, {"x": x})
    assert np.isnan(found[1]).all()
    assert (found[[0, 2]] == sound[[0, 2]]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"N": 129}, "the packed matrix has the shape [2, 8, 64, 4], expected [3, 8, 64, 4]"),
        ({"K": 65}, "the packed matrix has the shape [2, 8, 64, 4], expected [2, 12, 64, 4]"),
        ({"K": 60}, None),  # the last block is filled up
        ({"block_size": 64}, "the scales has the shape [2, 2, 64], expected [2, 1, 64]"),
        ({"block_size": 16}, "block_size is 16, expected 32, 64 or 128"),
        ({"N": 0}, "N is 0 and K is 64, expected positive numbers"),
        ({"K": 1 << 40}, "expected positive numbers up to 2^31"),
        ({"exact_inputs": 2}, "exact_inputs is 2, expected 0 or 1"),
    ],
)
def test_a_matrix_of_another_size_is_refused_when_the_graph_is_opened(
    changes: dict[str, int], message: str | None
) -> None:
    matrix = Matrix(128, 64, 4, 32, zero_points=True)
    inputs = {"x": (TensorProto.FLOAT, ["rows", changes.get("K", 64)])}
    if message is None:
        open_nodes([matrix.product(**changes)], inputs, ["ours"], matrix.constants)
        return
    with pytest.raises(RuntimeFailed, match=re.escape(message)):
        open_nodes([matrix.product(**changes)], inputs, ["ours"], matrix.constants)


def test_inputs_of_another_width_are_an_error() -> None:
    matrix = Matrix(64, 64, 4, 32, zero_points=False)
    graph = open_nodes([matrix.product()], {"x": (TensorProto.FLOAT, ["rows", "width"])}, ["ours"], matrix.constants)
    with pytest.raises(Exception, match="MatMulInt4: the inputs have 63 columns, expected K = 64"):
        graph.run(None, {"x": np.zeros((1, 63), np.float32)})


# --- attention


HEADS, KV_HEADS, HEAD_DIM, CONTEXT, LAYERS = 4, 2, 32, 64, 3
CACHES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int8": TensorProto.INT8}


def attention_constants() -> dict[str, Array]:
    angles = np.outer(np.arange(CONTEXT), 1e4 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM))
    numbers = np.random.default_rng(0)
    none = np.zeros(0, np.int64)
    return {
        "cos": np.cos(angles).astype(np.float32),
        "sin": np.sin(angles).astype(np.float32),
        "base_slots": none,
        "base_lengths": none,
        "scale": np.full(1, 0.03, np.float32),
        "scales": (numbers.random(KV_HEADS * HEAD_DIM) * 0.02 + 0.02).astype(np.float32),
    }


def open_attention(cache: str, *, layer: int = 1, scale: str = "scales", **changes: Any) -> Any:
    names = ["qkv", "kv_cache", "slots", "positions", "cos", "sin", "base_slots", "base_lengths"]
    if cache == "int8":
        names += ["", "", scale, scale]
    attributes = {"layer": layer, "num_heads": HEADS, "kv_num_heads": KV_HEADS, "epsilon": 1e-6} | changes
    node = helper.make_node("Attention", names, ["ours"], domain="rubricrm", **attributes)
    inputs = {
        "qkv": (TensorProto.FLOAT, ["tokens", (HEADS + 2 * KV_HEADS) * HEAD_DIM]),
        "kv_cache": (CACHES[cache], ["layers", 2, "slots", "heads", "capacity", "head_dim"]),
        "slots": (TensorProto.INT64, ["tokens"]),
        "positions": (TensorProto.INT64, ["tokens"]),
        "base_slots": (TensorProto.INT64, ["bases"]),
        "base_lengths": (TensorProto.INT64, ["bases"]),
    }
    return open_nodes([node], inputs, ["ours"], attention_constants())


def new_cache(cache: str, slots: int = 3, capacity: int = 48) -> Array:
    return np.zeros((LAYERS, 2, slots, KV_HEADS, capacity, HEAD_DIM), cache)


def attend(graph: Any, qkv: Array, cache: Array, slots: Sequence[int], positions: Sequence[int], **bases: Any) -> Array:
    """Run a step on a cache in this process's memory."""
    values = {"slots": slots, "positions": positions, **bases}
    binding = graph.io_binding()
    make = import_onnxruntime().OrtValue.ortvalue_from_numpy
    binding.bind_ortvalue_input("qkv", make(np.ascontiguousarray(qkv)))
    for name, value in values.items():
        binding.bind_ortvalue_input(name, make(np.array(value, np.int64)))
    binding.bind_input("kv_cache", "cpu", 0, cache.dtype, cache.shape, cache.ctypes.data)
    binding.bind_output("ours")
    graph.run_with_iobinding(binding)
    (found,) = binding.copy_outputs_to_cpu()
    return np.asarray(found)


def random_qkv(count: int, seed: int = 0) -> Array:
    shape = count, (HEADS + 2 * KV_HEADS) * HEAD_DIM
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def runtimes_attention(qkv: Array, cache: str, scale: str) -> tuple[Array, Array, Array]:
    """Return the output of GroupQueryAttention for one sequence, and the keys and values that it stores."""
    count, (queries, keys) = len(qkv), (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM)
    constants = attention_constants() | {"last": np.array([count - 1], np.int32), "total": np.array(count, np.int32)}
    names = ["query", "key", "value", "past_key", "past_value", "last", "total", "cos", "sin"]
    attributes: dict[str, Any] = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "do_rotary": 1}
    if cache == "int8":
        kind = "PER_TENSOR" if scale == "scale" else "PER_CHANNEL"
        attributes |= {"k_quant_type": kind, "v_quant_type": kind, "kv_cache_bit_width": 8}
        names += ["", "", "", scale, scale]
    outputs = ["theirs", "present_key", "present_value"]
    node = helper.make_node("GroupQueryAttention", names, outputs, domain="com.microsoft", **attributes)
    past = (CACHES[cache], [1, KV_HEADS, "past", HEAD_DIM])
    inputs: dict[str, Any] = {
        name: (TensorProto.FLOAT, [1, count, width])
        for name, width in (("query", queries), ("key", keys), ("value", keys))
    }
    graph_inputs = inputs | {"past_key": past, "past_value": past}
    used = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in names]
    types = [TensorProto.FLOAT, CACHES[cache], CACHES[cache]]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, *facts) for name, facts in graph_inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(outputs, types, strict=True)],
        used,
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    session = open_graph(helper.make_model(graph, opset_imports=opsets, ir_version=11).SerializeToString(), threads=1)
    parts = np.split(qkv, [queries, queries + keys], axis=1)
    feeds = {name: part[None] for name, part in zip(("query", "key", "value"), parts, strict=True)}
    feeds |= dict.fromkeys(("past_key", "past_value"), np.zeros((1, KV_HEADS, 0, HEAD_DIM), cache))
    output, key, value = session.run(None, feeds)
    return output[0], key[0], value[0]


@pytest.mark.parametrize(("cache", "scale"), [("float32", ""), ("int8", "scale"), ("int8", "scales")])
def test_attention_is_the_runtimes(cache: str, scale: str) -> None:
    qkv, memory = random_qkv(40), new_cache(cache)
    ours = attend(open_attention(cache, scale=scale), qkv, memory, [2] * 40, range(40))
    theirs, keys, values = runtimes_attention(qkv, cache, scale)
    if cache == "float32":
        assert distance(ours, theirs) < 1e-5
        assert distance(memory[1, 0, 2, :, :40], keys) < 1e-6
        assert (memory[1, 1, 2, :, :40] == values).all()
    else:  # a number between two integers may go to either
        assert distance(ours, theirs) < 0.01
        for half, expected in ((0, keys), (1, values)):
            assert np.abs(memory[1, half, 2, :, :40].astype(int) - expected).max() <= 1
    assert not memory[[0, 2]].any()
    assert not memory[1, :, :2].any()
    assert not memory[1, :, 2, :, 40:].any()


@pytest.mark.parametrize("cache", CACHES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_tokens_bits_do_not_depend_on_its_company(cache: str, data: st.DataObject) -> None:
    graph, qkv = open_attention(cache), random_qkv(40)
    alone = attend(graph, qkv, new_cache(cache), [0] * 40, range(40))
    memory, start = new_cache(cache), 0
    while start < 40:
        count = data.draw(st.integers(1, 40 - start))
        others = [slot for slot in (0, 2) if data.draw(st.booleans())]
        slots = [0] * (0 in others) + [1] * count + [2] * (2 in others)
        places = [data.draw(st.integers(0, 47)) for _ in others]
        positions = [*places[: 0 in others], *range(start, start + count), *places[len(places) - (2 in others) :]]
        mixed = np.concatenate(
            [random_qkv(int(0 in others), 1), qkv[start : start + count], random_qkv(int(2 in others), 2)]
        )
        found = attend(graph, mixed, memory, slots, positions)
        first = int(0 in others)
        assert found[first : first + count].tobytes() == alone[start : start + count].tobytes()
        start += count


@pytest.mark.parametrize("cache", CACHES)
def test_sequences_read_the_positions_of_their_base(cache: str) -> None:
    graph, qkv = open_attention(cache), random_qkv(40)
    alone = attend(graph, qkv, new_cache(cache), [0] * 40, range(40))
    memory = new_cache(cache)
    attend(graph, qkv[:25], memory, [1] * 25, range(25))
    rest = np.concatenate([qkv[25:], qkv[25:]])
    found = attend(
        graph,
        rest,
        memory,
        [0] * 15 + [2] * 15,
        [*range(25, 40)] * 2,
        base_slots=[1, -1, 1],
        base_lengths=[25, 0, 25],
    )
    assert found.tobytes() == alone[25:].tobytes() * 2
    assert not memory[:, :, [0, 2], :, :25].any()  # neither copied it


@pytest.mark.parametrize(
    ("slots", "positions", "bases", "message"),
    [
        ([3], [0], {}, "the slot of token 0 is 3, expected 0 to 2"),
        ([0], [48], {}, "the position of token 0 is 48, expected 0 to 47"),
        ([0, 0], [4, 6], {}, "the position of token 1 is 6, expected 5"),
        ([0, 1, 0], [4, 4, 5], {}, "the slot of token 2 is 0, expected another"),
        ([0], [4], {"base_slots": [0], "base_lengths": [0]}, "base_slots and base_lengths have 1 elements"),
        (
            [0],
            [4],
            {"base_slots": [1, -1, -1], "base_lengths": [9, 0, 0]},
            "position of token 0 is 4, expected at least 9",
        ),
    ],
)
def test_a_step_that_is_not_sound_writes_nothing(
    slots: list[int], positions: list[int], bases: dict[str, Any], message: str
) -> None:
    memory = new_cache("float32")
    with pytest.raises(Exception, match=f"Attention: {re.escape(message)}"):
        attend(open_attention("float32"), random_qkv(len(slots)), memory, slots, positions, **bases)
    assert not memory.any()


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        (
            (LAYERS, 2, 1, 3, 48, HEAD_DIM),
            {},
            "kv_cache has the shape [3, 2, 1, 3, 48, 32], expected [3, 2, 1, 2, 48, 32]",
        ),
        ((1, 2, 1, KV_HEADS, 48, HEAD_DIM), {}, "kv_cache has 1 layers"),
        ((LAYERS, 2, 1, KV_HEADS, 48, 31), {}, "a head_dim of 31"),
        ((LAYERS, 2, 1, KV_HEADS, 48, 16), {}, "cos has the shape [64, 16], expected [64, 8]"),
    ],
)
def test_a_cache_of_another_shape_is_an_error(shape: tuple[int, ...], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=re.escape(message)):
        attend(open_attention("float32", **changes), random_qkv(1), np.zeros(shape, np.float32), [0], [0])


def test_a_cache_of_another_type_is_an_error() -> None:
    graph = open_attention("float32")
    with pytest.raises(Exception, match="type"):
        attend(graph, random_qkv(1), new_cache("int8"), [0], [0])


def test_the_number_of_heads_is_checked_when_the_graph_is_opened() -> None:
    with pytest.raises(RuntimeFailed, match="num_heads is 5 and kv_num_heads 2"):
        open_attention("float32", num_heads=5)
