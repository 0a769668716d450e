"""The KV cache: its capacity, its length, and what a restored prefix leaves in it."""

import ctypes
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.kv_cache import STORAGE_TYPES, Buffer, DeviceBuffer, HostBuffer, KVCache, count_not_finite
from rubricrm.runtime.manifest import KV_TYPES, ModelFacts

MakeBuffer = Callable[[tuple[int, ...], str], Buffer]


def on_device(shape: tuple[int, ...], storage_type: str) -> DeviceBuffer:
    """A device's buffer; the device is the host, whose memory ONNX Runtime allocates as it does any other."""
    allocate = onnxruntime.OrtValue.ortvalue_from_shape_and_type
    return DeviceBuffer(shape, storage_type, lambda part: allocate(part, np.uint8, "cpu", 0))


both_buffers = pytest.mark.parametrize("make_buffer", [HostBuffer, on_device], ids=["host", "device"])


@pytest.fixture
def model(tiny_bundle: Path) -> ModelFacts:
    return Bundle.open(tiny_bundle).manifest.model


def random_positions(storage_type: str, length: int = 10, seed: int = 0) -> NDArray[Any]:
    elements = np.random.default_rng(seed).standard_normal((2, 2, 1, 2, length, 32)) * 30
    return elements.clip(0, 255).astype(storage_type) if storage_type[0] == "u" else elements.astype(storage_type)


@pytest.mark.parametrize(
    ("num_positions", "capacity"),
    [(1, 256), (255, 256), (256, 256), (257, 512), (2047, 2048), (2048, 2048), (5000, 2048)],
)
@both_buffers
def test_the_capacity_grows_in_steps_up_to_the_context(
    model: ModelFacts, num_positions: int, capacity: int, make_buffer: MakeBuffer
) -> None:
    cache = KVCache(model, "float32", num_positions, make_buffer)
    assert cache.capacity == capacity
    assert cache.length == 0
    assert cache.positions(capacity).shape == (2, 2, 1, 2, capacity, 32)


def test_a_context_that_is_no_multiple_of_the_step_is_the_limit(model: ModelFacts) -> None:
    assert KVCache(dataclasses.replace(model, context_length=300), "float32", 299).capacity == 300


def test_every_type_of_the_manifest_has_one_of_its_size() -> None:
    sizes = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "float8e4m3fn": 1}
    assert {name: np.dtype(storage).itemsize for name, storage in STORAGE_TYPES.items()} == sizes
    assert {kv_type for kv_types in KV_TYPES.values() for kv_type in kv_types} == set(sizes)


@pytest.mark.parametrize("kv_type", STORAGE_TYPES)
@both_buffers
def test_positions_are_a_copy_that_can_be_restored(model: ModelFacts, kv_type: str, make_buffer: MakeBuffer) -> None:
    cache, other = (KVCache(model, kv_type, length, make_buffer) for length in (256, 512))
    expected = random_positions(STORAGE_TYPES[kv_type], 12)
    cache.restore(expected, 12)
    kept = cache.positions(12)
    cache.restore(np.zeros_like(expected), 12)
    other.restore(kept, 12)
    assert kept.dtype == np.dtype(STORAGE_TYPES[kv_type])
    assert (kept == expected).all()
    assert (other.positions(12) == expected).all()


@pytest.mark.parametrize("kv_type", STORAGE_TYPES)
@both_buffers
def test_an_address_is_that_of_a_layers_keys_or_values(
    model: ModelFacts, kv_type: str, make_buffer: MakeBuffer
) -> None:
    cache = KVCache(model, kv_type, 256, make_buffer)
    expected = random_positions(STORAGE_TYPES[kv_type], 256)
    cache.restore(expected, 256)
    for layer in range(2):
        for half in range(2):
            size = expected[layer, half].nbytes
            memory = (ctypes.c_uint8 * size).from_address(cache.buffer.address(layer, half))
            assert bytes(memory) == expected[layer, half].tobytes()


@both_buffers
def test_restoring_sets_the_length_and_leaves_nothing_of_another_sequence(
    model: ModelFacts, make_buffer: MakeBuffer
) -> None:
    cache = KVCache(model, "float32", 256, make_buffer)
    cache.restore(random_positions("float32", 200, seed=1), 200)
    prefix = random_positions("float32", 10)
    cache.restore(prefix, 7)
    assert cache.length == 7
    assert (cache.positions(7) == prefix[:, :, :, :, :7]).all()


@pytest.mark.parametrize("kv_type", STORAGE_TYPES)
@both_buffers
def test_positions_of_another_cache_follow_ones_own(model: ModelFacts, kv_type: str, make_buffer: MakeBuffer) -> None:
    cache, other = (KVCache(model, kv_type, length, make_buffer) for length in (256, 512))
    mine, theirs = (random_positions(STORAGE_TYPES[kv_type], 12, seed) for seed in (1, 2))
    theirs[..., :5, :] = mine[..., :5, :]
    cache.restore(mine, 5)
    other.restore(theirs, 12)
    cache.copy(other, 9)
    assert cache.length == 9
    assert (cache.positions(9) == theirs[..., :9, :]).all()
    assert (other.positions(12) == theirs).all()
    cache.restore(mine, 12)
    assert (cache.positions(12) == mine).all()


@both_buffers
def test_restoring_nothing_empties_the_cache(model: ModelFacts, make_buffer: MakeBuffer) -> None:
    cache = KVCache(model, "float32", 256, make_buffer)
    cache.advance(9)
    cache.restore(random_positions("float32"), 0)
    assert cache.length == 0


@pytest.mark.parametrize(("length", "expected"), [(0, 0), (5, 5), (9, 9), (12, 9)])
def test_rewinding_only_shortens(model: ModelFacts, length: int, expected: int) -> None:
    cache = KVCache(model, "float32", 256)
    cache.advance(9)
    cache.rewind(length)
    assert cache.length == expected


class CountingBuffer(HostBuffer):
    """Remembers which positions were written."""

    def __init__(self, shape: tuple[int, ...], storage_type: str) -> None:
        super().__init__(shape, storage_type)
        self.writes: list[tuple[int, int]] = []

    def write(self, positions: NDArray[np.generic], start: int, end: int) -> None:
        self.writes.append((start, end))
        super().write(positions, start, end)


@pytest.mark.parametrize(
    ("steps", "writes"),
    [
        ([("restore", 10), ("restore", 10)], [(0, 10)]),
        ([("restore", 10), ("advance", 50), ("restore", 10)], [(0, 10)]),
        ([("restore", 6), ("restore", 10)], [(0, 6), (6, 10)]),
        ([("restore", 10), ("restore", 6), ("restore", 10)], [(0, 10), (6, 10)]),
        ([("restore", 10), ("rewind", 4), ("advance", 20), ("restore", 10)], [(0, 10), (4, 10)]),
        ([("restore", 10), ("rewind", 15), ("restore", 10)], [(0, 10)]),
        ([("restore", 10), ("rewind", 0), ("advance", 3), ("restore", 10)], [(0, 10), (0, 10)]),
        ([("advance", 30), ("restore", 10)], [(0, 10)]),
        ([("restore", 10), ("other", 10), ("restore", 10)], [(0, 10)] * 3),
        ([("restore", 0)], []),
    ],
    ids=["again", "generated", "longer", "shorter", "rewound", "not-rewound", "emptied", "used", "other", "nothing"],
)
def test_only_what_is_not_there_is_copied(
    model: ModelFacts, steps: list[tuple[str, int]], writes: list[tuple[int, int]]
) -> None:
    cache = KVCache(model, "float32", 256, CountingBuffer)
    prefix, other = random_positions("float32"), random_positions("float32", seed=1)
    array = cache.buffer.array  # type: ignore[attr-defined]
    for step, count in steps:
        if step == "advance":  # the graph writes what it appends
            array[:, :, :, :, cache.length : cache.length + count] = -1
            cache.advance(count)
        elif step == "rewind":
            cache.rewind(count)
        else:
            cache.restore(other if step == "other" else prefix, count)
    assert cache.buffer.writes == writes  # type: ignore[attr-defined]
    assert (cache.positions(count) == prefix[:, :, :, :, :count]).all()


# ---- zeros, and numbers that are none ----


def filled_with_rubbish(shape: tuple[int, ...], storage_type: str) -> DeviceBuffer:
    """A device whose memory holds what was there before: NaN in every float type."""

    def allocate(part: tuple[int, ...]) -> Any:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.full(part, 0xFF, np.uint8))

    return DeviceBuffer(shape, storage_type, allocate)


@pytest.mark.parametrize("kv_type", STORAGE_TYPES)
@pytest.mark.parametrize("make_buffer", [HostBuffer, filled_with_rubbish], ids=["host", "device"])
def test_a_new_cache_is_zero_whatever_the_memory_held(model: ModelFacts, kv_type: str, make_buffer: MakeBuffer) -> None:
    cache = KVCache(model, kv_type, 256, make_buffer)
    assert not cache.positions(256).any()
    for layer, half in ((0, 0), (1, 1)):
        memory = (ctypes.c_uint8 * 64).from_address(cache.buffer.address(layer, half))
        assert bytes(memory) == bytes(64)


@both_buffers
def test_a_cleared_cache_is_zero_and_restores_all_of_a_prefix(model: ModelFacts, make_buffer: MakeBuffer) -> None:
    cache, prefix = KVCache(model, "float32", 256, make_buffer), random_positions("float32")
    cache.restore(prefix, 10)
    cache.advance(3)
    cache.clear()
    assert cache.length == 0
    assert not cache.positions(256).any()
    cache.restore(prefix, 10)
    assert (cache.positions(10) == prefix).all()


ML_TYPES = {"bfloat16": ml_dtypes.bfloat16, "float8e4m3fn": ml_dtypes.float8_e4m3fn}


@pytest.mark.parametrize("kv_type", STORAGE_TYPES)
@given(data=st.data())
def test_numbers_that_are_none_are_counted_in_every_type(kv_type: str, data: st.DataObject) -> None:
    storage = np.dtype(STORAGE_TYPES[kv_type])
    raw = data.draw(st.binary(max_size=64 * storage.itemsize))
    stored = np.frombuffer(raw[: len(raw) // storage.itemsize * storage.itemsize], storage)
    with np.errstate(invalid="ignore"):
        values = stored.view(ML_TYPES.get(kv_type, storage)).astype(np.float64)
    assert count_not_finite(stored) == np.count_nonzero(~np.isfinite(values))


def test_the_largest_numbers_are_numbers() -> None:
    largest = {name: ml_dtypes.finfo(kind).max for name, kind in ML_TYPES.items()}
    for kv_type, value in largest.items():
        stored = np.array([value, -value, 0], ML_TYPES[kv_type]).view(STORAGE_TYPES[kv_type])
        assert count_not_finite(stored) == 0
