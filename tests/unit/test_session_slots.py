"""Sessions on this project's kernels: the same bits whatever else runs, and a cache that is written in place."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from own_kernels import needs_kernels
from rubricrm import RubricModel
from rubricrm.errors import OutputInvalid, RuntimeFailed
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.graph import open_graph
from rubricrm.runtime.graph_tensors import read_tensors
from rubricrm.runtime.kernels import find_kernels
from rubricrm.runtime.kv_cache import STORAGE_TYPES
from rubricrm.runtime.session import GraphVariant, Session
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from short_texts import EVALUATION

pytestmark = [needs_kernels, pytest.mark.usefixtures("all_cores")]

MakeCheckpoint = Callable[..., Path]
Array = NDArray[Any]

TOKEN_IDS = [5 + (7 * n) % 250 for n in range(70)]
COUNT = len(TOKEN_IDS)


@pytest.fixture(scope="module", params=["packed_bundle", "narrow_bundle"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """INT4 with a cache of floats, and INT8 with one of integers."""
    return Bundle.open(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> Iterator[Session]:
    session = Session(bundle, threads=2)
    yield session
    session.close()


@pytest.fixture(scope="module")
def every_row(session: Session) -> NDArray[np.float32]:
    """The logits after each token, [70, vocab_size]."""
    return session.run(session.new_slot(100), TOKEN_IDS, COUNT)


def test_the_graph_of_steps_is_the_one_that_runs(session: Session) -> None:
    assert session.facts.file == "model.step.onnx"
    assert session.kernels == find_kernels()
    assert session.cache_key.startswith(f"cpu-model.step.onnx-{session.facts.kv_type}-onnxruntime-")


@pytest.mark.parametrize(
    ("options", "is_exact"),
    [
        ({"weights": "int8", "activations": "int8", "method": "rtn"}, True),
        ({"weights": "int4", "head": "model"}, True),
        ({"weights": "int8", "block_size": "channel"}, False),
        ({"weights": "fp8", "head": "int8"}, False),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None,
)
def test_what_is_taken_for_exact_is(odd_checkpoint: Path, tmp_path: Path, options: Any, *, is_exact: bool) -> None:
    """A packed embedding and head alone make no graph exact: ONNX Runtime multiplied the layers' floats."""
    (tmp_path / "text.txt").write_text(EVALUATION)
    job = OnnxExport(
        str(odd_checkpoint), tmp_path / "b", eval_text=tmp_path / "text.txt", rubrics=False, max_kl="none", **options
    )
    session = Session(export_onnx(job), threads=1)
    assert session.is_exact == is_exact
    together = session.run(session.new_slot(COUNT), TOKEN_IDS, COUNT)
    slot = session.new_slot(COUNT)
    one_by_one = np.concatenate([session.run(slot, [token]) for token in TOKEN_IDS])
    if is_exact:
        np.testing.assert_array_equal(one_by_one, together)
    else:
        np.testing.assert_allclose(one_by_one, together, atol=0.2)
    session.close()


@pytest.fixture
def alike_bundle(bundle: Bundle, tmp_path: Path) -> Bundle:
    """The bundle, or where its graphs have different types of caches, one of the same weights whose graphs have one."""
    if len({graph.kv_type for graph in bundle.manifest.graphs}) == 1:
        return bundle
    checkpoint = str(bundle.path.with_name("checkpoint"))
    options: dict[str, Any] = {"weights": "int4", "kv": "model", "rubrics": False, "max_kl": "none"}
    return export_onnx(OnnxExport(checkpoint, tmp_path / "bundle", **options))


def test_it_computes_what_the_runtimes_own_kernels_compute(alike_bundle: Bundle) -> None:
    contents = alike_bundle.file("model.onnx").read_bytes()
    ours = Session(alike_bundle, threads=2)
    shared = Session(alike_bundle, threads=1, variant=GraphVariant("model.onnx", contents))
    assert shared.kernels is None
    assert shared.cache_key != ours.cache_key
    every_row, expected = (session.run(session.new_slot(100), TOKEN_IDS, COUNT) for session in (ours, shared))
    # Both round inputs to 8 bits, each in its own way; so does a cache of integers.
    assert np.abs(every_row - expected).max() < 0.02 * np.abs(expected).max()
    ours.close()
    shared.close()


# ---- the same bits ----


@settings(max_examples=30)
@given(cuts=st.sets(st.integers(1, COUNT - 1)))
def test_chunks_give_the_same_bits(session: Session, every_row: NDArray[np.float32], cuts: set[int]) -> None:
    slot = session.new_slot(100)
    ends = [*sorted(cuts), COUNT]
    for start, end in zip([0, *ends], ends, strict=False):
        rows = session.run(slot, TOKEN_IDS[start:end], end - start)
        assert (rows == every_row[start:end]).all()


@pytest.mark.parametrize("rows", [1, 2, 9, COUNT])
def test_rows_are_the_tail_of_all(session: Session, every_row: NDArray[np.float32], rows: int) -> None:
    assert (session.run(session.new_slot(100), TOKEN_IDS, rows) == every_row[-rows:]).all()


@pytest.mark.parametrize("num_positions", [COUNT, 256, 300, 2048])
def test_the_capacity_changes_nothing(session: Session, every_row: NDArray[np.float32], num_positions: int) -> None:
    assert (session.run(session.new_slot(num_positions), TOKEN_IDS) == every_row[-1:]).all()


def test_threads_change_nothing(bundle: Bundle, every_row: NDArray[np.float32]) -> None:
    single = Session(bundle, threads=1)
    assert (single.run(single.new_slot(100), TOKEN_IDS, COUNT) == every_row).all()
    single.close()


def test_sessions_and_threads_at_once_change_nothing(bundle: Bundle, every_row: NDArray[np.float32]) -> None:
    sessions = [Session(bundle, threads=2) for _ in range(2)]

    def steps(number: int) -> bool:
        session = sessions[number % 2]
        slot = session.new_slot(100)
        return all((session.run(slot, [token]) == every_row[n]).all() for n, token in enumerate(TOKEN_IDS))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(steps, range(4)))
    for session in sessions:
        session.close()


# ---- the cache ----


def test_restoring_and_rewinding_give_the_same_bits(session: Session, every_row: NDArray[np.float32]) -> None:
    slot, other = session.new_slot(100), session.new_slot(300)
    session.run(slot, TOKEN_IDS[:40])
    kept = slot.cache.positions(40)
    session.run(slot, [9, 9, 9])
    slot.cache.rewind(40)
    assert (session.run(slot, TOKEN_IDS[40:], 30) == every_row[40:]).all()
    for length in (12, 40, 0, 40, 39):
        other.cache.restore(kept, length)
        assert (session.run(other, TOKEN_IDS[length:]) == every_row[-1:]).all()


def test_a_step_writes_its_positions_in_place_and_no_others(session: Session) -> None:
    slot = session.new_slot(100)
    buffer = slot.cache.buffer.array  # type: ignore[union-attr]
    assert buffer.dtype == STORAGE_TYPES[session.facts.kv_type]
    for start, end in ((0, 40), (40, 41), (41, 60)):
        before = buffer.copy()
        session.run(slot, TOKEN_IDS[start:end])
        assert buffer[:, :, :, :, start:end].any(axis=-1).all()
        before[:, :, :, :, start:end] = buffer[:, :, :, :, start:end]
        assert (before == buffer).all()


MEMORY = """
import json, sys
import psutil
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import Session
session = Session(Bundle.open(sys.argv[1]), threads=2)
assert session.facts.kv_update == "slots"
session.run(session.new_slot(10), list(range(5, 10)))
process = psutil.Process()
before = process.memory_info().rss
slot = session.new_slot(1 << 30)
for count in (1, 7, 256, *[1] * 200):
    session.run(slot, [9] * count)
print(json.dumps([slot.cache.buffer.array.nbytes, process.memory_info().rss - before]))
"""


def test_a_cache_is_never_copied(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """An eighth of a gigabyte that no token has touched costs little memory, unless somebody copies it."""
    checkpoint = make_checkpoint(max_position_embeddings=32768, num_key_value_heads=4, head_dim=128)
    export_onnx(OnnxExport(str(checkpoint), tmp_path / "bundle"))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, growth = json.loads(done.stdout)
    assert size == 2 * 2 * 4 * 32768 * 128 * 2
    assert growth < size / 2  # huge pages: 2 MB for the first position of each head


# ---- a model ----


def test_a_prefix_is_kept_for_each_graph(packed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "cache"))
    path = Path(shutil.copytree(packed_bundle, tmp_path / "bundle"))
    document = json.loads((path / "rubricrm.json").read_text("utf-8"))
    name = document["prompts"]["rubric"]["prefix"]["files"].pop("float16")
    del document["files"][name]
    (path / name).unlink()
    (path / "rubricrm.json").write_text(json.dumps(document), "utf-8")
    texts = []
    for kernels in (None, "off", None):
        with monkeypatch.context() as patch:
            if kernels is not None:
                patch.setenv("RUBRICRM_KERNELS", kernels)
            with RubricModel.open(path, threads=1) as model:
                texts.append(model.generate("Write a haiku.", max_new_tokens=12).text)
    with RubricModel.open(packed_bundle, threads=1) as model:
        result = model.generate("Write a haiku.", max_new_tokens=12)
    assert result.usage.cached_prompt_tokens == model.bundle.manifest.prompt.prefix.num_tokens
    assert {texts[0], texts[2]} == {result.text}
    kept = sorted(file.parent.name.split("-onnx")[0] for file in (tmp_path / "cache").rglob("prefix.*"))
    assert kept == ["cpu-model.onnx-float32", "cpu-model.step.onnx-float16"]


# ---- what the graph refuses ----


@pytest.fixture(scope="module")
def graph(packed_bundle: Path) -> Any:
    return open_graph(packed_bundle / "model.step.onnx", threads=2, library=find_kernels().library)


def feeds(kv_cache: Array, *tokens: tuple[int, int, int], rows: list[int] | None = None, **others: Array) -> Any:
    """Inputs of one step: (id, slot, position) of each token."""
    ids, slots, positions = (np.array(column, np.int64) for column in zip(*tokens, strict=True))
    logit_rows = np.arange(len(ids)) if rows is None else np.array(rows, np.int64)
    inputs = {"input_ids": ids, "slots": slots, "positions": positions, "logit_rows": logit_rows}
    return {**inputs, "kv_cache": kv_cache, **others}


def new_cache(slots: int = 3, capacity: int = 80, kv_type: Any = np.float16) -> Array:
    return np.zeros((2, 2, slots, 2, capacity, 32), kv_type)


def run(graph: Any, inputs: dict[str, Array]) -> NDArray[np.float32]:
    """Run a step whose cache is bound: given as a value, it might be a copy."""
    binding = graph.io_binding()
    for name, array in inputs.items():
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    binding.bind_output("logits", "cpu")
    graph.run_with_iobinding(binding)
    logits: NDArray[np.float32] = binding.get_outputs()[0].numpy()
    return logits


@settings(max_examples=30)
@given(seed=st.integers(0, 1 << 32))
def test_a_row_has_the_same_bits_in_any_mix(graph: Any, packed_bundle: Path, seed: int) -> None:
    """Three slots advance by random numbers of tokens per step, in random order."""
    numbers = random.Random(seed)
    sequences = [TOKEN_IDS[:12], TOKEN_IDS[20:40], TOKEN_IDS[50:51]]
    cache, done = new_cache(), [0, 0, 0]
    found: list[list[Array]] = [[], [], []]
    while done != [len(sequence) for sequence in sequences]:
        tokens = []
        for slot in numbers.sample(range(3), 3):
            count = numbers.randint(0, len(sequences[slot]) - done[slot])
            part = range(done[slot], done[slot] + count)
            tokens += [(sequences[slot][position], slot, position) for position in part]
            done[slot] += count
        if tokens:
            for (_, slot, _), row in zip(tokens, run(graph, feeds(cache, *tokens)), strict=True):
                found[slot].append(row)
    session = Session(Bundle.open(packed_bundle), threads=1)
    for sequence, rows in zip(sequences, found, strict=True):
        assert (session.run(session.new_slot(80), sequence, len(sequence)) == np.array(rows)).all()
    session.close()


def test_rows_may_be_asked_for_in_any_order(graph: Any) -> None:
    tokens = [(token, 0, position) for position, token in enumerate(TOKEN_IDS[:9])]
    every = run(graph, feeds(new_cache(), *tokens))
    assert (run(graph, feeds(new_cache(), *tokens, rows=[8, 0, 3, 3])) == every[[8, 0, 3, 3]]).all()
    assert run(graph, feeds(new_cache(), *tokens, rows=[])).shape == (0, 272)


def test_sequences_may_share_the_positions_of_a_base(graph: Any) -> None:
    prefix, ends = TOKEN_IDS[:20], (TOKEN_IDS[20:25], TOKEN_IDS[40:43])
    cache = new_cache()
    run(graph, feeds(cache, *((token, 2, position) for position, token in enumerate(prefix))))
    bases = {"base_slots": np.array([2, 2, -1]), "base_lengths": np.array([20, 20, 0])}
    tokens = [(token, slot, 20 + n) for slot, end in enumerate(ends) for n, token in enumerate(end)]
    found = run(graph, feeds(cache, *tokens, **bases))
    expected = []
    for end in ends:
        whole = [(token, 0, position) for position, token in enumerate([*prefix, *end])]
        expected += list(run(graph, feeds(new_cache(), *whole))[20:])
    assert (found == np.array(expected)).all()
    assert not cache[:, :, :2, :, :20].any()


REFUSED: dict[str, tuple[tuple[int, int, int], ...]] = {
    "slot-too-large": ((9, 3, 0),),
    "slot-negative": ((9, -1, 0),),
    "position-too-large": ((9, 0, 80),),
    "position-negative": ((9, 0, -1),),
    "position-huge": ((9, 0, 2**62),),
    "second-token-out-of-range": ((9, 0, 79), (9, 0, 80)),
    "position-twice": ((9, 0, 4), (9, 0, 4)),
    "positions-with-a-gap": ((9, 0, 4), (9, 0, 6)),
    "positions-descend": ((9, 0, 4), (9, 0, 3)),
    "slot-in-two-parts": ((9, 0, 4), (9, 1, 0), (9, 0, 5)),
}


@pytest.mark.parametrize("tokens", REFUSED.values(), ids=REFUSED)
def test_a_step_that_is_none_writes_nothing(graph: Any, tokens: tuple[tuple[int, int, int], ...]) -> None:
    cache = new_cache()
    with pytest.raises(Exception, match="Attention"):
        run(graph, feeds(cache, *tokens))
    assert not cache.any()


def test_positions_beyond_the_context_are_refused_in_a_larger_cache(graph: Any) -> None:
    cache = new_cache(capacity=4096)
    run(graph, feeds(cache, (9, 0, 2047)))
    cache.fill(0)
    with pytest.raises(Exception, match="Attention"):
        run(graph, feeds(cache, (9, 0, 2048)))
    assert not cache.any()


@pytest.mark.parametrize(
    "cache",
    [
        new_cache(kv_type=np.float32),
        new_cache(kv_type=np.int8),
        new_cache()[:1],
        new_cache()[..., :16].copy(),
        new_cache(slots=0),
        new_cache(capacity=0),
        new_cache()[0],
    ],
    ids=["float32", "int8", "layers", "head-dim", "no-slots", "no-capacity", "rank"],
)
def test_a_cache_of_another_shape_or_type_is_refused(graph: Any, cache: Array) -> None:
    with pytest.raises(Exception, match="kv_cache|Attention|input data type"):
        run(graph, feeds(cache, (9, 0, 0)))
    assert not cache.any()


@pytest.mark.parametrize(
    ("base_slots", "base_lengths"),
    [
        ([3, -1, -1], [5, 0, 0]),
        ([-2, -1, -1], [5, 0, 0]),
        ([1, -1, -1], [81, 0, 0]),
        ([1, -1, -1], [-1, 0, 0]),
        ([1, -1, -1], [11, 0, 0]),  # the token lies below it
        ([1, -1], [5, 0]),
        ([1, -1, -1], [5, 0]),
    ],
    ids=["too-large", "negative", "too-long", "negative-length", "token-below", "too-few", "unequal"],
)
def test_a_base_that_is_none_is_refused(graph: Any, base_slots: list[int], base_lengths: list[int]) -> None:
    cache = new_cache()
    bases = {"base_slots": np.array(base_slots, np.int64), "base_lengths": np.array(base_lengths, np.int64)}
    with pytest.raises(Exception, match="Attention"):
        run(graph, feeds(cache, (9, 0, 10), **bases))
    assert not cache.any()


def test_a_base_is_not_written_in_the_same_step(graph: Any) -> None:
    cache = new_cache()
    bases = {"base_slots": np.array([1, -1, -1]), "base_lengths": np.array([5, 0, 0])}
    with pytest.raises(Exception, match="Attention"):
        run(graph, feeds(cache, (9, 0, 10), (9, 1, 3), **bases))
    assert not cache.any()
    run(graph, feeds(cache, (9, 0, 10), (9, 1, 5), **bases))


# ---- files that are not sound ----


@pytest.fixture
def packed_copy(packed_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed_bundle, tmp_path / "bundle"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = path / "rubricrm.json"
    document = json.loads(manifest.read_text("utf-8"))
    change(document)
    manifest.write_text(json.dumps(document), "utf-8")


def test_a_data_file_that_is_too_short_is_a_typed_error(packed_copy: Path) -> None:
    """Also where the manifest says the same: nobody may read beyond the file."""
    data = packed_copy / "model.step.onnx.data"
    for size in (data.stat().st_size - 4096, 4096, 0):
        os.truncate(data, size)
        edit(packed_copy, lambda document, size=size: document["files"][data.name].update(size=size))
        with pytest.raises(RuntimeFailed, match="opening .*model.step.onnx"):
            Session(Bundle.open(packed_copy), threads=1)


def test_weights_that_are_no_numbers_give_an_error(packed_copy: Path) -> None:
    graph, data = packed_copy / "model.step.onnx", packed_copy / "model.step.onnx.data"
    tensors = [tensor for tensor in read_tensors(graph) if tensor.name.endswith("down_proj.weight.packed_scales")]
    with data.open("r+b") as file:
        for tensor in tensors:
            file.seek(tensor.offset)
            file.write(b"\xff\x7f" * (tensor.num_bytes // 2))
    session = Session(Bundle.open(packed_copy), threads=1)
    with pytest.raises(OutputInvalid, match="272 of 272 logits are not finite"):
        session.run(session.new_slot(100), TOKEN_IDS)
    session.close()


def test_a_manifest_with_another_type_of_cache_is_a_typed_error(packed_copy: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["graphs"][0]["kv_type"] = "int8"
        document["prompts"]["rubric"]["prefix"]["files"] = {}

    edit(packed_copy, change)
    session = Session(Bundle.open(packed_copy), threads=1)
    with pytest.raises(RuntimeFailed):
        session.run(session.new_slot(100), TOKEN_IDS)
    session.close()
