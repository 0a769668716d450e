"""The session: what it refuses, and that chunks and rows do not change the numbers."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rubricrm import RubricModel
from rubricrm.errors import ModelClosed, OptionInvalid, OutputInvalid, RubricrmError, RuntimeFailed, RuntimeMissing
from rubricrm.runtime.binding import ELEMENT_TYPES
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.graph import RECORD_ASSIGNMENT, open_graph, runtime_facts
from rubricrm.runtime.kv_cache import STORAGE_TYPES, KVCache
from rubricrm.runtime.manifest import ModelFacts
from rubricrm.runtime.providers import misplaced_operators
from rubricrm.runtime.session import GraphVariant, Session
from rubricrm.runtime.slot import Slot

EditManifest = Callable[[Callable[[dict[str, Any]], object]], Path]
MakeGraph = Callable[[Path, NDArray[np.float32]], bytes]

TOKEN_IDS = [5 + (7 * n) % 250 for n in range(70)]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    """The tiny bundle with model.onnx alone."""
    bundle = Bundle.open(tiny_bundle)
    graphs = tuple(graph for graph in bundle.manifest.graphs if graph.kv_update == "shared")
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, graphs=graphs))


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> Iterator[Session]:
    session = Session(bundle, threads=1)
    yield session
    session.close()


@pytest.mark.parametrize("device", ["tpu", "", "CPU", "cuda:1"])
def test_an_unknown_device_is_refused(bundle: Bundle, device: str) -> None:
    message = f"device must be one of cpu, cuda, tensorrt, tensorrt-rtx, got '{device}'"
    with pytest.raises(OptionInvalid, match=message):
        Session(bundle, device=device)
    with pytest.raises(OptionInvalid, match=message):
        open_graph(b"", threads=1, device=device)


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**12, True, 1.5, "2"], ids=repr)
def test_threads_out_of_range_are_refused(bundle: Bundle, threads: Any) -> None:
    with pytest.raises(OptionInvalid, match=f"threads must be an integer from 1 to 1024, got {threads!r}"):
        Session(bundle, threads=threads)


def test_the_threads_default_to_the_usable_cores(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rubricrm.runtime.session.usable_cores", lambda: 3)
    session = Session(bundle)
    assert session.threads == 3
    session.close()


def test_a_bundle_for_another_device_is_refused(edit_manifest: EditManifest) -> None:
    path = edit_manifest(lambda document: document["graphs"][0].update(target="cuda"))
    with pytest.raises(OptionInvalid, match="was exported for cuda, cannot run on cpu. Export with --target cpu"):
        RubricModel.open(path, device="cpu")


def test_the_device_defaults_to_the_bundles_target(bundle: Bundle, edit_manifest: EditManifest) -> None:
    session = Session(bundle, threads=1)
    assert session.device == "cpu"
    session.close()
    path = edit_manifest(lambda document: document["graphs"][0].update(target="cuda"))
    with pytest.raises(RuntimeMissing, match="device cuda cannot be used: .*pip install .*\\[gpu\\]'"):
        RubricModel.open(path)


def test_a_provider_that_onnx_runtime_left_out_is_missing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_on_the_cpu(*_: Any, providers: list[str], **__: Any) -> SimpleNamespace:
        assert providers == ["CUDAExecutionProvider"]
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    monkeypatch.setattr("rubricrm.runtime.providers.cuda_problem", lambda _: None)
    monkeypatch.setattr("onnxruntime.InferenceSession", open_on_the_cpu)
    with pytest.raises(
        RuntimeMissing, match="did not load CUDAExecutionProvider and would run on CPUExecutionProvider"
    ):
        open_graph(bundle.file("model.onnx"), threads=1, device="cuda")


class GraphStandIn(SimpleNamespace):
    __hash__ = object.__hash__


def assigned(provider: str, *operators: tuple[str, str]) -> SimpleNamespace:
    nodes = [SimpleNamespace(domain=domain, op_type=op_type) for domain, op_type in operators]
    return SimpleNamespace(ep_name=provider, get_nodes=lambda: nodes)


@pytest.mark.parametrize("misplaced", [(), ("MatMulIntegerToFloat", "GroupQueryAttention", "GroupQueryAttention")])
def test_heavy_operators_without_a_kernel_on_the_device_are_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, misplaced: tuple[str, ...]
) -> None:
    graph = GraphStandIn(
        get_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        get_provider_graph_assignment_info=lambda: [
            assigned("CUDAExecutionProvider", ("", "MatMul"), ("com.microsoft", "MatMulNBits")),
            # Lengths are computed on the CPU, as they should be.
            assigned("CPUExecutionProvider", ("", "Gather"), *(("com.microsoft", name) for name in misplaced)),
        ],
    )
    monkeypatch.setattr("rubricrm.runtime.providers.cuda_problem", lambda _: None)
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: graph)
    if not misplaced:
        assert open_graph(bundle.file("model.onnx"), threads=1, device="cuda") is graph
        return
    with pytest.raises(RuntimeFailed, match="no kernel on cuda for GroupQueryAttention, MatMulIntegerToFloat of this"):
        open_graph(bundle.file("model.onnx"), threads=1, device="cuda")


def test_products_of_int8_do_not_overflow_on_any_processor(bundle: Bundle) -> None:
    """By an option that processors with VNNI do not need: their tests pass without it."""
    options = open_graph(bundle.file("model.onnx"), threads=1).get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "1"


def test_what_a_graph_runs_on_is_recorded_by_the_installed_runtime(bundle: Bundle) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(RECORD_ASSIGNMENT, "1")
    path = str(bundle.file("model.onnx"))
    graph = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert misplaced_operators(graph, "CPUExecutionProvider") == []
    assert "GroupQueryAttention" in misplaced_operators(graph, "CUDAExecutionProvider")


def test_nothing_falls_back_to_the_cpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rubricrm.runtime.providers.cuda_problem", lambda _: None)
    with pytest.raises((RuntimeMissing, RuntimeFailed)), pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        open_graph(bundle.file("model.onnx"), threads=1, device="cuda")
    assert capfd.readouterr().out == ""


def test_a_graph_that_onnx_runtime_refuses_is_an_error_with_its_message(
    bundle_copy: Path, edit_manifest: EditManifest
) -> None:
    (bundle_copy / "model.onnx").write_bytes(b"this is no graph")
    edit_manifest(lambda document: document["files"]["model.onnx"].update(size=16))
    with pytest.raises(RuntimeFailed, match=r"opening .*model.onnx with onnxruntime .*: .*"):
        RubricModel.open(bundle_copy)


# One of the two is wrong: the manifest, or the graph. Nothing may be read or written beyond a buffer for it.
CONTRADICTIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "more-layers": lambda document: document["model"].update(num_layers=3),
    "fewer-layers": lambda document: document["model"].update(num_layers=1),
    "fewer-heads": lambda document: document["model"].update(num_kv_heads=1),
    "more-heads": lambda document: document["model"].update(num_kv_heads=4),
    "wider-heads": lambda document: document["model"].update(head_dim=64),
    "smaller-vocabulary": lambda document: document["model"].update(vocab_size=265),
    "larger-vocabulary": lambda document: document["model"].update(vocab_size=300),
    "other-cache-type": lambda document: document["graphs"][0].update(kv_type="float16"),
    "longer-context": lambda document: document["model"].update(context_length=4096),
}


@pytest.mark.parametrize("change", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
@pytest.mark.parametrize("prefix", ["bundled", "computed"])
def test_a_manifest_that_contradicts_the_graph_is_a_typed_error(
    request: pytest.FixtureRequest, edit_manifest: EditManifest, change: Callable[[dict[str, Any]], object], prefix: str
) -> None:
    if prefix == "computed":
        request.getfixturevalue("bundle_without_prefix")
    path = edit_manifest(change)
    with pytest.raises(RubricrmError) as caught, RubricModel.open(path, threads=1) as model:
        model.generate("Hi " * 600, max_new_tokens=400)
    assert str(path) in str(caught.value)


# ---- other graphs ----


def test_a_graph_may_be_given_as_bytes(bundle: Bundle, session: Session) -> None:
    expected = session.run(session.new_slot(100), TOKEN_IDS)
    variant = Session(bundle, threads=1, variant=GraphVariant("model.onnx", bundle.file("model.onnx").read_bytes()))
    assert (variant.run(variant.new_slot(100), TOKEN_IDS) == expected).all()
    variant.close()


def test_a_graph_of_bytes_that_is_none_is_an_error_with_its_size(bundle: Bundle) -> None:
    for graph in (b"", b"this is no graph"):
        with pytest.raises(RuntimeFailed, match=f"opening a graph of {len(graph)} bytes with onnxruntime .*: .*"):
            Session(bundle, threads=1, variant=GraphVariant("model.onnx", graph))


def test_any_graph_can_be_opened(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.file("model.onnx")
    inputs = [value.name for value in open_graph(path, threads=1).get_inputs()]
    moved = open_graph(path.read_bytes(), threads=1, data_directory=bundle.path)
    assert [value.name for value in moved.get_inputs()] == inputs
    with pytest.raises(RuntimeFailed, match="model.onnx.data"):
        open_graph(path.read_bytes(), threads=1, data_directory=tmp_path)


# ---- a cache of int8 ----


def relative_error(logits: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("size", [1, 2 * 32], ids=["per-tensor", "per-channel"])
def test_an_int8_cache_holds_rounded_keys_and_values(
    bundle: Bundle, session: Session, int8_graph: MakeGraph, size: int
) -> None:
    exact = session.new_slot(100)
    expected = session.run(exact, TOKEN_IDS, 30)
    positions = exact.cache.positions(len(TOKEN_IDS))
    scale = np.full(size, np.abs(positions).max() / 127, np.float32)
    facts = dataclasses.replace(bundle.manifest.graph, kv_type="int8")
    narrow = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, graphs=(facts,)))
    rounded = Session(
        narrow, threads=1, variant=GraphVariant("model.onnx", int8_graph(bundle.file("model.onnx"), scale))
    )
    slot = rounded.new_slot(100)
    logits = rounded.run(slot, TOKEN_IDS, 30)
    stored = slot.cache.positions(len(TOKEN_IDS))
    assert stored.dtype == np.int8
    # The first layer's come from the same numbers; the second's from what the first lost.
    assert np.abs(stored[0] - positions[0] / scale[0]).max() <= 0.51
    assert 0 < relative_error(logits, expected) < 0.06
    rounded.close()


def run_and_keep(session: Session, slot: Slot) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Run all tokens; return the keys and values of the first 40, and the logits after the last."""
    session.run(slot, TOKEN_IDS[:40])
    kept = slot.cache.positions(40)
    return kept, session.run(slot, TOKEN_IDS[40:])


def test_an_int8_cache_is_rewound_and_restored_as_any(int8_bundle: Path) -> None:
    session = Session(Bundle.open(int8_bundle), threads=1)
    slot, other = session.new_slot(100), session.new_slot(300)
    kept, expected = run_and_keep(session, slot)
    session.run(slot, TOKEN_IDS[:3])
    slot.cache.rewind(40)
    assert (session.run(slot, TOKEN_IDS[40:]) == expected).all()
    other.cache.restore(kept, 40)
    assert (session.run(other, TOKEN_IDS[40:]) == expected).all()
    session.close()


# ---- a device with a memory of its own ----


@pytest.fixture(params=["float32", "int8"])
def device_bundle(request: pytest.FixtureRequest, edit_manifest: EditManifest) -> Path:
    """A bundle for cuda, where cuda is the CPU by the way of a device."""
    request.getfixturevalue("device_in_host_memory")
    request.getfixturevalue("int8_bundle" if request.param == "int8" else "bundle_without_prefix")
    return edit_manifest(lambda document: document["graphs"][0].update(target="cuda"))


def host_bundle(path: Path) -> Bundle:
    """The same bundle, for the CPU."""
    bundle = Bundle.open(path)
    facts = dataclasses.replace(bundle.manifest.graph, target="cpu")
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, graphs=(facts,)))


def test_a_device_computes_what_the_host_computes(device_bundle: Path) -> None:
    host, device = Session(host_bundle(device_bundle), threads=1), Session(Bundle.open(device_bundle), threads=1)
    assert (host.device, device.device) == ("cpu", "cuda")
    slots = host.new_slot(100), device.new_slot(100)
    for start, end, rows in ((0, 40, 1), (40, 41, 1), (41, 60, 19), (60, 61, 1), (61, 70, 3)):
        expected, logits = (
            session.run(slot, TOKEN_IDS[start:end], rows) for session, slot in zip((host, device), slots, strict=True)
        )
        assert logits.shape == (rows, 272)
        assert (logits == expected).all()
    host_positions, device_positions = (slot.cache.positions(70) for slot in slots)
    assert host_positions.dtype == device_positions.dtype
    assert (host_positions == device_positions).all()
    host.close()
    device.close()


def test_a_device_restores_and_rewinds_as_the_host(device_bundle: Path) -> None:
    session = Session(Bundle.open(device_bundle), threads=1)
    slot, other = session.new_slot(100), session.new_slot(300)
    kept, expected = run_and_keep(session, slot)
    slot.cache.rewind(40)
    assert (session.run(slot, TOKEN_IDS[40:]) == expected).all()
    for length in (40, 40, 12):
        other.cache.restore(kept, length)
        session.run(other, TOKEN_IDS[length:])
    other.cache.restore(kept, 40)
    assert (session.run(other, TOKEN_IDS[40:]) == expected).all()
    session.close()


def test_a_devices_logits_belong_to_the_caller(device_bundle: Path) -> None:
    session = Session(Bundle.open(device_bundle), threads=1)
    slot = session.new_slot(100)
    first = session.run(slot, TOKEN_IDS[:9])
    kept = first.copy()
    session.run(slot, TOKEN_IDS[9:20])
    assert (first == kept).all()
    session.close()


def test_a_model_on_a_device_writes_what_it_writes_on_the_host(device_bundle: Path) -> None:
    texts = []
    for bundle in (host_bundle(device_bundle), Bundle.open(device_bundle), Bundle.open(device_bundle)):
        with RubricModel(bundle, threads=1) as model:
            texts += [model.generate("Write a haiku.", max_new_tokens=20).text for _ in range(2)]
            assert model.generate("Hi", max_new_tokens=1).model["device"] == bundle.manifest.graph.target
            assert (
                model.generate("Hi", max_new_tokens=1).usage.cached_prompt_tokens >= 128
            )  # the prefix, and what was kept
    assert len(set(texts)) == 1


def test_a_device_without_memory_for_the_cache_is_an_error(
    device_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 9")

    session = Session(Bundle.open(device_bundle), threads=1)
    monkeypatch.setattr("onnxruntime.OrtValue.ortvalue_from_shape_and_type", refuse)
    with pytest.raises(RuntimeFailed, match="making the KV cache of .*: Failed to allocate memory"):
        session.new_slot(10)
    session.close()


@pytest.mark.parametrize(
    ("kv_type", "element_type"), [("bfloat16", TensorProto.BFLOAT16), ("float8e4m3fn", TensorProto.FLOAT8E4M3FN)]
)
def test_elements_that_numpy_lacks_reach_a_graph_by_their_number(kv_type: str, element_type: int) -> None:
    shape = (1, 1, 256, 16)
    past, present = (helper.make_tensor_value_info(name, element_type, shape) for name in ("past", "present"))
    copy = helper.make_graph([helper.make_node("Identity", ["past"], ["present"])], "copy", [past], [present])
    model = helper.make_model(copy, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    graph = open_graph(model.SerializeToString(), threads=1)
    facts = ModelFacts("", "", None, 1, 1, 1, 1, 1, 1, 16, 1, 256)
    source, target = (KVCache(facts, kv_type, 256) for _ in range(2))
    expected = np.arange(2 * 256 * 16).astype(STORAGE_TYPES[kv_type]).reshape(1, 2, *shape)
    source.restore(expected, 256)
    binding = graph.io_binding()
    binding.bind_input("past", "cpu", 0, ELEMENT_TYPES[kv_type], shape, source.buffer.address(0, 1))
    binding.bind_output("present", "cpu", 0, ELEMENT_TYPES[kv_type], shape, target.buffer.address(0, 1))
    graph.run_with_iobinding(binding)
    assert (target.positions(256)[0, 1] == expected[0, 1]).all()


def test_the_numbers_of_element_types_are_onnxs() -> None:
    names = {"float32": "FLOAT", **{name: name.upper() for name in ELEMENT_TYPES if name != "float32"}}
    assert {name: TensorProto.DataType.Value(names[name]) for name in ELEMENT_TYPES} == ELEMENT_TYPES
    assert STORAGE_TYPES.keys() <= ELEMENT_TYPES.keys()


# ---- the runtime ----


def test_a_missing_runtime_names_both_extras(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for use in (lambda: Session(bundle), runtime_facts):
        with pytest.raises(RuntimeMissing, match=r"pip install .*\[cpu\]'; for a CUDA GPU with the extra gpu"):
            use()


def test_the_runtime_tells_its_version_and_providers() -> None:
    facts = runtime_facts()
    assert facts["onnxruntime"].count(".") >= 2
    assert "CPUExecutionProvider" in facts["providers"]
    assert facts["devices"]["cpu"] == "ready"
    assert "[gpu]'" in facts["devices"]["cuda"]


def test_logits_are_rows_of_the_whole_vocabulary(session: Session) -> None:
    slot = session.new_slot(100)
    logits = session.run(slot, TOKEN_IDS)
    assert logits.shape == (1, 272)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert slot.cache.length == len(TOKEN_IDS)


@pytest.mark.parametrize("rows", [1, 2, 9, len(TOKEN_IDS)])
def test_several_rows_are_the_tail_of_all(session: Session, rows: int) -> None:
    every_row = session.run(session.new_slot(100), TOKEN_IDS, len(TOKEN_IDS))
    tail = session.run(session.new_slot(100), TOKEN_IDS, rows)
    assert tail.shape == (rows, 272)
    np.testing.assert_allclose(tail, every_row[-rows:], atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 2, 7, 32, 69])
def test_chunks_give_the_logits_of_the_whole(session: Session, chunk: int) -> None:
    whole = session.run(session.new_slot(100), TOKEN_IDS)
    slot = session.new_slot(100)
    for start in range(0, len(TOKEN_IDS), chunk):
        logits = session.run(slot, TOKEN_IDS[start : start + chunk])
    assert slot.cache.length == len(TOKEN_IDS)
    np.testing.assert_allclose(logits, whole, atol=1e-4)


def test_after_rewinding_the_tokens_before_still_count(session: Session) -> None:
    slot = session.new_slot(100)
    session.run(slot, [*TOKEN_IDS[:40], 9, 9, 9])
    slot.cache.rewind(40)
    again = session.run(slot, TOKEN_IDS[40:])
    np.testing.assert_allclose(again, session.run(session.new_slot(100), TOKEN_IDS), atol=1e-4)


def test_slots_do_not_disturb_each_other(session: Session) -> None:
    expected = session.run(session.new_slot(100), TOKEN_IDS)
    slot, other = session.new_slot(100), session.new_slot(300)
    for start in range(0, len(TOKEN_IDS), 10):
        logits = session.run(slot, TOKEN_IDS[start : start + 10])
        session.run(other, TOKEN_IDS[::-1][start : start + 10])
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_logits_belong_to_the_caller(session: Session) -> None:
    slot = session.new_slot(100)
    first = session.run(slot, TOKEN_IDS)
    kept = first.copy()
    session.run(slot, TOKEN_IDS[:5])
    assert (first == kept).all()


def test_more_tokens_than_the_cache_holds_are_an_error(session: Session) -> None:
    slot = session.new_slot(256)
    session.run(slot, TOKEN_IDS * 3)
    with pytest.raises(RuntimeFailed):
        session.run(slot, TOKEN_IDS)


def test_a_failed_run_leaves_the_slot_as_it_was(session: Session) -> None:
    slot = session.new_slot(100)
    session.run(slot, TOKEN_IDS[:40])
    with pytest.raises(RuntimeFailed):
        session.run(slot, TOKEN_IDS[40:], rows=len(TOKEN_IDS))
    assert slot.cache.length == 40
    logits = session.run(slot, TOKEN_IDS[40:])
    np.testing.assert_allclose(logits, session.run(session.new_slot(100), TOKEN_IDS), atol=1e-4)


def test_a_closed_session_says_so(bundle: Bundle) -> None:
    session = Session(bundle, threads=1)
    slot = session.new_slot(10)
    session.close()
    session.close()
    for use in (lambda: session.run(slot, [5]), lambda: session.new_slot(10)):
        with pytest.raises(ModelClosed, match="the model was closed. Open it again"):
            use()


FORK = """
import gc, os, sys, weakref
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import Session
session = Session(Bundle.open(sys.argv[1]), threads=2)
graph = weakref.ref(session._graph)
child = os.fork()
del session
gc.collect()
if child == 0:
    sys.exit(graph() is None)
assert graph() is None
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_a_fork_never_destroys_a_graph_whose_threads_it_lacks(bundle: Bundle) -> None:
    command = [sys.executable, "-c", FORK, str(bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_several_sessions_share_nothing(bundle: Bundle) -> None:
    first, second = Session(bundle, threads=1), Session(bundle, threads=1)
    expected = first.run(first.new_slot(100), TOKEN_IDS)
    first.close()
    assert (second.run(second.new_slot(100), TOKEN_IDS) == expected).all()
    second.close()


def telemetry_setting(bundle: Bundle, environment: dict[str, str]) -> str:
    script = (
        "import os, sys, rubricrm; rubricrm.RubricModel.open(sys.argv[1]); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    command = [sys.executable, "-c", script, str(bundle.path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_onnx_runtime_reports_to_nobody_unless_the_user_wants_it(bundle: Bundle) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    assert telemetry_setting(bundle, environment) == "1"
    assert telemetry_setting(bundle, environment | {"ORT_DISABLE_TELEMETRY": "0"}) == "0"


# ---- what a run is asked for ----


@pytest.mark.parametrize("max_rows", [0, -1, True, 1.5, "2", 10**9], ids=repr)
def test_rows_out_of_range_are_refused(bundle: Bundle, max_rows: Any) -> None:
    with pytest.raises(OptionInvalid, match=f"max_rows must be an integer from 1 to 1048576, got {max_rows!r}"):
        Session(bundle, threads=1, max_rows=max_rows)


@pytest.mark.parametrize("count", [257, 300, 1000])
def test_more_tokens_than_a_run_takes_are_a_typed_error(session: Session, count: int) -> None:
    slot = session.new_slot(2000)
    message = f"{count} tokens in one step, expected at most 256. Run them in parts, or open .* larger max_rows"
    with pytest.raises(RuntimeFailed, match=message):
        session.run(slot, [9] * count)
    assert slot.cache.length == 0
    assert np.isfinite(session.run(slot, [9] * 256)).all()


@pytest.mark.parametrize("token", [-1, 272, 10**9, 2**70])
def test_an_id_that_is_none_is_a_typed_error(session: Session, token: int) -> None:
    with pytest.raises(RuntimeFailed, match=f"token {token}, expected ids from 0 to 271"):
        session.run(session.new_slot(100), [5, token])


# ---- numbers that are none ----

MATRIX = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 1}, {"temperature": 1.0, "top_p": 0.9}], ids=str)
def test_a_weight_that_is_no_number_gives_an_error_and_no_text(
    bundle_copy: Path, poison: Callable[[Path, str], None], options: dict[str, Any]
) -> None:
    poison(bundle_copy, MATRIX)
    with RubricModel.open(bundle_copy, threads=1) as model, pytest.raises(OutputInvalid) as caught:
        model.generate("Write a haiku.", max_new_tokens=8, **options)
    text = str(caught.value)
    assert text.startswith(
        f"OUTPUT_INVALID: running {bundle_copy}: 272 of 272 logits are not finite (the first is nan)"
    )
    assert " after token " in text
    assert "inspect --verify" in text


def changing(
    session: Session, monkeypatch: pytest.MonkeyPatch, change: Callable[[NDArray[np.float32]], object]
) -> None:
    """Let the graph compute other logits."""
    run = session._execution.run

    def changed(*step: Any) -> NDArray[np.float32]:
        found = run(*step)
        change(found)
        return found

    monkeypatch.setattr(session._execution, "run", changed)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("column", [0, 100, 260])
def test_one_logit_that_is_no_number_is_named_with_its_token(
    session: Session, monkeypatch: pytest.MonkeyPatch, value: float, column: int
) -> None:
    slot = session.new_slot(100)
    session.run(slot, TOKEN_IDS[:10])
    changing(session, monkeypatch, lambda logits: logits.__setitem__((1, column), value))
    with pytest.raises(OutputInvalid, match=rf"1 of 272 .* is {value}\) after token {TOKEN_IDS[13]} at position 13,"):
        session.run(slot, TOKEN_IDS[10:15], 3)
    assert slot.cache.length == 0
    assert not slot.cache.positions(100).any()


@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf], ids=str)
def test_padding_after_the_real_tokens_may_be_ruled_out(
    session: Session, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """Minus infinity adds nothing to a sum over all tokens; the others would be its result."""
    changing(session, monkeypatch, lambda logits: logits.__setitem__((-1, 261), value))
    if value == -np.inf:
        assert session.run(session.new_slot(100), TOKEN_IDS)[0, 261] == -np.inf
        return
    with pytest.raises(OutputInvalid, match=f"the first is {value}"):
        session.run(session.new_slot(100), TOKEN_IDS)


def test_a_slot_is_of_use_again_after_numbers_that_were_none(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(bundle, threads=1)
    slot = session.new_slot(100)
    expected = session.run(slot, TOKEN_IDS)
    with monkeypatch.context() as patch:
        changing(session, patch, lambda logits: logits.fill(np.nan))
        with pytest.raises(OutputInvalid):
            session.run(slot, [9])
    assert (session.run(slot, TOKEN_IDS) == expected).all()
    session.close()


# ---- paths ----

NAMES = {"not-ascii": "größe \u4e2d".encode(), "no-utf8": b"bad\xff\xfename", "both": b"gr\xc3\xb6\xff"}
GENERATE = """
import os, sys
from pathlib import Path
from rubricrm import RubricModel
with RubricModel.open(Path(os.fsdecode(bytes.fromhex(sys.argv[1]))), threads=1, verify=True) as model:
    print(model.generate("Write a haiku.", max_new_tokens=12).text.encode().hex())
"""


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], ids=["", "C"])
def test_a_bundle_may_lie_under_any_name(
    bundle_without_prefix: Path, tmp_path: Path, name: bytes, locale: dict[str, str]
) -> None:
    with RubricModel.open(bundle_without_prefix, threads=1) as model:
        expected = model.generate("Write a haiku.", max_new_tokens=12).text
    path = os.fsencode(tmp_path) + b"/" + name
    bundle_without_prefix.rename(os.fsdecode(path))
    environment = os.environ | locale | {"RUBRICRM_CACHE": os.fsdecode(path + b"-cache")}
    command = [sys.executable, "-c", GENERATE, path.hex()]
    for _ in range(2):  # the second one reads the prefix that the first one kept
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert bytes.fromhex(done.stdout).decode() == expected
        assert done.stderr == ""


def test_a_damaged_graph_under_any_name_is_a_typed_error(bundle_copy: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff"))
    bundle_copy.rename(path)
    graph = path / "model.onnx"
    graph.write_bytes(b"x" * graph.stat().st_size)
    with pytest.raises(RuntimeFailed, match=r"opening .*model.onnx with onnxruntime"):
        RubricModel.open(path, threads=1)
