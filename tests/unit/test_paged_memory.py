"""Keys and values in blocks: what is written is read, in the places where the operator looks for it."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rubricrm.runtime.block_table import BLOCK_POSITIONS, BlockTable
from rubricrm.runtime.paged_memory import PagedBuffer, PagedMemory

LAYERS, KV_HEADS, HEAD_DIM = 2, 3, 4
Array = NDArray[Any]


@pytest.fixture(scope="module")
def graph() -> Any:
    """A graph whose bindings make values over memory."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "logits")]
    nodes = [helper.make_node("Identity", ["x"], ["logits"])]
    model = helper.make_model(
        helper.make_graph(nodes, "values", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


class Held:
    """A memory whose values ONNX Runtime has allocated, as on a device, and the values."""

    def __init__(self, graph: Any, storage_type: str = "float16", slots: int = 2, positions: int = 1000) -> None:
        self.values: list[Any] = []
        self._graph = graph
        table = BlockTable(slots, positions, slots * positions)
        self.memory = PagedMemory(table, LAYERS, (KV_HEADS, HEAD_DIM), storage_type, self._allocate, self._view)
        self.buffers = [PagedBuffer(self.memory, number) for number in range(slots)]

    def _allocate(self, shape: tuple[int, ...]) -> Any:
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, "cpu", 0)
        value.numpy().fill(7)  # what was there before
        self.values.append(value)
        return value

    def _view(self, place: int, shape: tuple[int, ...]) -> Any:
        binding = self._graph.io_binding()
        binding.bind_output("logits", "cpu", 0, 2, shape, place)
        return binding.get_outputs()[0]


def random_positions(length: int, storage_type: str = "float16") -> Array:
    shape = (LAYERS, 2, 1, KV_HEADS, length, HEAD_DIM)
    return (np.random.default_rng(length).standard_normal(shape) * 30).astype(storage_type)


@pytest.mark.parametrize("storage_type", ["float32", "float16", "uint16", "int8", "uint8"])
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 700), min_size=1, max_size=5, unique=True).map(sorted))
def test_what_is_written_is_read(graph: Any, storage_type: str, cuts: list[int]) -> None:
    held = Held(graph, storage_type)
    positions = random_positions(700, storage_type)
    for start, end in zip([0, *cuts], cuts, strict=False):
        held.buffers[1].write(positions, start, end)
        held.buffers[0].write(positions[..., ::-1, :], start, end)
    end = cuts[-1]
    assert held.buffers[1].read(end).dtype == storage_type
    assert np.array_equal(held.buffers[1].read(end), positions[..., :end, :])
    assert np.array_equal(held.buffers[0].read(end), positions[..., ::-1, :][..., :end, :])


def test_a_position_lies_where_the_operator_looks_for_it(graph: Any) -> None:
    held = Held(graph)
    held.buffers[0].write(random_positions(1), 0, 1)
    positions = random_positions(600)
    held.buffers[1].write(positions, 0, 600)
    assert held.memory.shape == (8, BLOCK_POSITIONS, KV_HEADS, HEAD_DIM)
    for layer in range(LAYERS):
        for half in range(2):
            value = held.values[2 * layer + half]
            assert held.memory.address(layer, half) == value.data_ptr()
            cache = value.numpy().view(np.float16)
            for position in (0, 255, 256, 599):
                block = held.memory.table.rows[1, position // BLOCK_POSITIONS]
                found = cache[block, position % BLOCK_POSITIONS]
                assert np.array_equal(found, positions[layer, half, 0, :, position])


def test_new_memory_is_zero_and_so_is_what_was_cleared(graph: Any) -> None:
    held = Held(graph)
    assert not any(value.numpy().any() for value in held.values)
    held.buffers[0].write(random_positions(300), 0, 300)
    held.buffers[1].write(random_positions(300), 0, 300)
    held.buffers[0].clear()
    assert held.memory.table.owned(0) == ()
    assert np.array_equal(held.buffers[1].read(300), random_positions(300))
    held.buffers[1].clear()
    assert not any(value.numpy().any() for value in held.values)


def test_more_than_the_memory_holds_is_an_error(graph: Any) -> None:
    held = Held(graph, slots=1, positions=256)
    with pytest.raises(ValueError, match="need 2 more blocks"):
        held.buffers[0].write(random_positions(300), 0, 300)
