"""The cache of a graph that joins past and new keys and values into new tensors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rubricrm.errors import RuntimeFailed
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.concatenated_cache import ConcatenatedCache
from rubricrm.runtime.manifest import ModelFacts
from rubricrm.runtime.session import GraphVariant, Session

EditManifest = Callable[[Callable[[dict[str, Any]], object]], Path]

IDS = [5 + (7 * n) % 250 for n in range(12)]


@pytest.fixture
def model(tiny_bundle: Path) -> ModelFacts:
    return Bundle.open(tiny_bundle).manifest.model


def make_cache(model: ModelFacts) -> ConcatenatedCache:
    return ConcatenatedCache(model, "float32", onnxruntime.OrtValue.ortvalue_from_numpy)


def random_positions(length: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((2, 2, 1, 2, length, 32)).astype(np.float32)


def held(cache: ConcatenatedCache) -> dict[str, NDArray[Any]]:
    return {name: value.numpy() for name, value in cache.pasts()}


def test_a_new_cache_gives_empty_pasts(model: ModelFacts) -> None:
    cache = make_cache(model)
    pasts = held(cache)
    assert list(pasts) == [f"past_key_values.{layer}.{half}" for layer in range(2) for half in ("key", "value")]
    assert {past.shape for past in pasts.values()} == {(1, 2, 0, 32)}
    assert (cache.length, cache.capacity) == (0, model.context_length)
    assert cache.positions(0).shape == (2, 2, 1, 2, 0, 32)


def test_a_prefix_is_restored_and_rewound(model: ModelFacts) -> None:
    cache, prefix = make_cache(model), random_positions(9)
    cache.restore(prefix, 7)
    assert cache.length == 7
    np.testing.assert_array_equal(cache.positions(7), prefix[:, :, :, :, :7])
    cache.rewind(8)
    assert cache.length == 7
    cache.rewind(3)
    np.testing.assert_array_equal(held(cache)["past_key_values.1.value"], prefix[1, 1, :, :, :3])
    np.testing.assert_array_equal(cache.positions(3), prefix[:, :, :, :, :3])


def test_positions_of_another_cache_are_copied(model: ModelFacts) -> None:
    cache, other = make_cache(model), make_cache(model)
    cache.restore(random_positions(9, seed=1), 4)
    other.restore(random_positions(9), 9)
    cache.copy(other, 7)
    assert cache.length == 7
    np.testing.assert_array_equal(cache.positions(7), other.positions(7))
    np.testing.assert_array_equal(held(cache)["past_key_values.1.value"], random_positions(9)[1, 1, :, :, :7])


def test_what_a_run_returned_is_handed_on_uncopied(model: ModelFacts) -> None:
    cache = make_cache(model)
    values = [
        onnxruntime.OrtValue.ortvalue_from_numpy(half)
        for layer in random_positions(4)
        for half in np.ascontiguousarray(layer)
    ]
    cache.keep(values)
    cache.advance(4)
    assert [value for _, value in cache.pasts()] == values


# --- a graph that does so


@pytest.fixture
def joining(bundle_copy: Path, edit_manifest: EditManifest) -> Iterator[Session]:
    """A graph without a model: keys and values are the tokens' ids and positions, a row of logits sums the past ids."""
    shape = ["batch", 2, "past", 32]
    token_type, cache_type = TensorProto.INT64, TensorProto.FLOAT
    inputs = [
        helper.make_tensor_value_info("input_ids", token_type, ["batch", "new"]),
        helper.make_tensor_value_info("attention_mask", token_type, ["batch", "total"]),
        helper.make_tensor_value_info("position_ids", token_type, ["batch", "new"]),
    ]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=cache_type),
        helper.make_node("Cast", ["position_ids"], ["places"], to=cache_type),
        helper.make_node("Unsqueeze", ["ids", "axes"], ["key"]),
        helper.make_node("Unsqueeze", ["places", "axes"], ["value"]),
        helper.make_node("Expand", ["key", "size"], ["new.key"]),
        helper.make_node("Expand", ["value", "size"], ["new.value"]),
        helper.make_node("ReduceSum", ["present.0.key", "summed"], ["total"], keepdims=0),
        helper.make_node("Unsqueeze", ["ids", "last"], ["column"]),
        helper.make_node("Add", ["column", "total"], ["sums"]),
        helper.make_node("Expand", ["sums", "vocabulary"], ["logits"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", cache_type, ["batch", "new", 272])]
    for layer in range(2):
        for half in ("key", "value"):
            past, present = f"past_key_values.{layer}.{half}", f"present.{layer}.{half}"
            inputs.append(helper.make_tensor_value_info(past, cache_type, shape))
            outputs.append(helper.make_tensor_value_info(present, cache_type, ["batch", 2, "total", 32]))
            nodes.insert(6, helper.make_node("Concat", [past, f"new.{half}"], [present], axis=2))
    constants = {"axes": [1, 3], "size": [1, 2, 1, 32], "summed": [1, 2, 3], "last": [2], "vocabulary": [1, 1, 272]}
    initializers = [helper.make_tensor(n, token_type, [len(v)], v) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "joining", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    edit_manifest(lambda document: document["graphs"][0].update(kv_update="concatenate"))
    session = Session(
        Bundle.open(bundle_copy), threads=1, variant=GraphVariant("model.onnx", model.SerializeToString())
    )
    yield session
    session.close()


def sum_of(ids: list[int]) -> float:
    return sum(ids) * 2 * 32  # each id fills a position of both heads


def test_runs_append_rewind_and_restore(joining: Session) -> None:
    slot = joining.new_slot(4)
    logits = joining.run(slot, IDS[:5], rows=2)
    assert logits.shape == (2, 272)
    assert logits[:, 0].tolist() == [sum_of(IDS[:5]) + token_id for token_id in IDS[3:5]]
    joining.run(slot, IDS[5:6])
    assert slot.cache.positions(6)[0, 1, 0, 0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    slot.cache.rewind(2)
    assert joining.run(slot, IDS[6:8])[0, 0] == sum_of([*IDS[:2], *IDS[6:8]]) + IDS[7]
    kept = slot.cache.positions(3)
    other = joining.new_slot(4)
    other.cache.restore(kept, 3)
    assert joining.run(other, IDS[8:9])[0, 0] == sum_of([*IDS[:2], IDS[6], IDS[8]]) + IDS[8]
    assert other.cache.positions(4)[1, 1, 0, 1, :, 31].tolist() == [0, 1, 2, 3]
    assert slot.cache.length == 4


def test_more_tokens_than_the_context_holds(joining: Session) -> None:
    slot = joining.new_slot(4)
    for _ in range(8):
        joining.run(slot, [9] * 256)
    with pytest.raises(RuntimeFailed, match="logits of 1 of 1 tokens after 2048 in a cache of 2048"):
        joining.run(slot, [9])
