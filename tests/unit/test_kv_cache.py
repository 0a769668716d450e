"""The KV cache: its capacity, its length, and what a restored prefix leaves in it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from rubricrm.bundle import Bundle
from rubricrm.kv_cache import KVCache
from rubricrm.manifest import ModelFacts


@pytest.fixture
def model(tiny_bundle: Path) -> ModelFacts:
    return Bundle.open(tiny_bundle).manifest.model


@pytest.mark.parametrize(
    ("num_positions", "capacity"),
    [(1, 256), (255, 256), (256, 256), (257, 512), (2047, 2048), (2048, 2048), (5000, 2048)],
)
def test_the_capacity_grows_in_steps_up_to_the_context(model: ModelFacts, num_positions: int, capacity: int) -> None:
    cache = KVCache(model, "float32", num_positions)
    assert cache.capacity == capacity
    assert cache.length == 0
    assert cache.buffer.shape == (2, 2, 1, 2, capacity, 32)


def test_a_context_that_is_no_multiple_of_the_step_is_the_limit(model: ModelFacts) -> None:
    assert KVCache(dataclasses.replace(model, context_length=300), "float32", 299).capacity == 300


@pytest.mark.parametrize("kv_type", ["float32", "float16"])
def test_the_element_type_is_the_manifests(model: ModelFacts, kv_type: str) -> None:
    assert KVCache(model, kv_type, 1).buffer.dtype == np.dtype(kv_type)


def test_restoring_sets_the_length_and_nothing_behind_it(model: ModelFacts) -> None:
    cache = KVCache(model, "float32", 256)
    prefix = np.arange(2 * 2 * 2 * 10 * 32, dtype=np.float32).reshape(2, 2, 1, 2, 10, 32)
    cache.buffer[:] = -1
    cache.length = 200
    cache.restore(prefix, 7)
    assert cache.length == 7
    assert (cache.buffer[:, :, :, :, :7] == prefix[:, :, :, :, :7]).all()
    assert (cache.buffer[:, :, :, :, 7:] == -1).all()


def test_restoring_nothing_empties_the_cache(model: ModelFacts) -> None:
    cache = KVCache(model, "float32", 256)
    cache.length = 9
    cache.restore(np.ones((2, 2, 1, 2, 10, 32), np.float32), 0)
    assert cache.length == 0


def test_positions_are_a_copy_that_can_be_restored(model: ModelFacts) -> None:
    cache, other = KVCache(model, "float32", 256), KVCache(model, "float32", 512)
    cache.buffer[:] = np.random.default_rng(0).standard_normal(cache.buffer.shape, dtype=np.float32)
    kept = cache.positions(12)
    cache.buffer[:] = 0
    other.restore(kept, 12)
    assert kept.shape == (2, 2, 1, 2, 12, 32)
    assert kept.all()
    assert (other.positions(12) == kept).all()


@pytest.mark.parametrize(("length", "expected"), [(0, 0), (5, 5), (9, 9), (12, 9)])
def test_rewinding_only_shortens(model: ModelFacts, length: int, expected: int) -> None:
    cache = KVCache(model, "float32", 256)
    cache.length = 9
    cache.rewind(length)
    assert cache.length == expected
