"""Steps on a device as CUDA graphs: when they are captured, what they compute, and what happens where they cannot be.

A stand-in in this process's memory keeps ONNX Runtime's rules.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from paged_reference import CapturingGraph
from rubricrm.errors import ModelClosed, RuntimeFailed
from rubricrm.runtime import paged_execution
from rubricrm.runtime import session as session_module
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.graph_choice import GraphChoice
from rubricrm.runtime.providers import DEVICES, Device
from rubricrm.runtime.session import Session
from rubricrm.runtime.slot import Chunk, Slot
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

pytestmark = pytest.mark.usefixtures("one_core")
Open = Callable[..., tuple[Session, CapturingGraph]]

TOKEN_IDS = [5 + (7 * n) % 250 for n in range(600)]
WORTH = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Bundle:
    """The tiny model for CUDA."""
    output = tmp_path_factory.mktemp("captured") / "bundle"
    return export_onnx(OnnxExport(str(tiny_bundle.with_name("checkpoint")), output, target="cuda", weights="fp16"))


@pytest.fixture
def open_session(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens sessions on a device whose memory is the host's, and returns them with their graphs."""
    opened: list[Session] = []
    graphs: list[CapturingGraph] = []

    def open_graph(path: Path, *, refuse: bool, provider_options: dict[str, str] | None = None, **_: Any) -> Any:
        if provider_options is not None:
            assert provider_options == {"enable_cuda_graph": "1"}
            if refuse:
                raise RuntimeFailed("opening the graph: This session cannot use the graph capture feature")
        graphs.append(CapturingGraph(path, captures=provider_options is not None))
        return graphs[-1]

    def open_one(*, captures: bool = True, refuse: bool = False) -> tuple[Session, CapturingGraph]:
        device = Device("CPUExecutionProvider", "cpu", captures=captures)
        monkeypatch.setattr(session_module, "find_device", lambda _: device)
        monkeypatch.setattr(session_module, "choose", lambda *_, **__: GraphChoice(bundle.manifest.graphs[0], "cuda"))
        monkeypatch.setattr(session_module, "open_graph", lambda *of, **how: open_graph(*of, refuse=refuse, **how))
        opened.append(Session(bundle, max_rows=600))
        return opened[-1], graphs[-1]

    monkeypatch.setattr(paged_execution, "_WORTH_CAPTURING", WORTH)
    yield open_one
    for session in opened:
        session.close()


def numbers(graph: CapturingGraph) -> list[int]:
    """Return the numbers of the CUDA graphs that ran since the last call."""
    found = [number for number, _ in graph.runs]
    graph.runs.clear()
    return found


def decode(session: Session, slots: tuple[Slot, ...], steps: int) -> list[NDArray[np.float32]]:
    """Append one token to each slot, several times."""
    rows = []
    for _ in range(steps):
        rows += session.step([Chunk(slot, [TOKEN_IDS[slot.cache.length]]) for slot in slots])
    return rows


def test_only_the_device_cuda_captures() -> None:
    assert [name for name, device in DEVICES.items() if device.captures] == ["cuda"]


def test_captured_steps_compute_what_others_do_while_sequences_grow(open_session: Open) -> None:
    session, graph = open_session()
    plain, _ = open_session(captures=False)
    slots, others = session.new_slots(2, 600), plain.new_slots(2, 600)
    for slot, other in zip(slots, others, strict=True):
        length = 500 + 4 * slot.number
        assert np.array_equal(session.run(slot, TOKEN_IDS[:length]), plain.run(other, TOKEN_IDS[:length]))
    numbers(graph)
    found, expected = decode(session, slots, 16), decode(plain, others, 16)
    # Both are shorter than 513 in eight steps. Then the longer one is not, which takes another graph.
    assert numbers(graph) == [-1] * WORTH + [1] * (8 - WORTH) + [-1] * WORTH + [2] * (8 - WORTH)
    assert all(np.array_equal(row, other) for row, other in zip(found, expected, strict=True))
    for slot in slots:
        slot.rewind(500 + 4 * slot.number)
    again = decode(session, slots, 3)
    assert numbers(graph) == [1] * 3
    assert all(np.array_equal(row, other) for row, other in zip(again, found[:6], strict=True))


def test_each_number_of_sequences_has_its_graph_and_prompts_have_none(open_session: Open) -> None:
    session, graph = open_session()
    slots = session.new_slots(3, 600)
    for slot in slots:
        session.run(slot, TOKEN_IDS[:5])
    numbers(graph)
    decode(session, slots, WORTH + 1)
    decode(session, slots[1:], WORTH + 1)
    decode(session, slots[::2], 1)  # other slots, as many: the same
    assert numbers(graph) == [-1] * WORTH + [1] + [-1] * WORTH + [2, 2]
    for _ in range(WORTH + 2):
        session.step([Chunk(slots[0], TOKEN_IDS[:2]), Chunk(slots[1], [7])])
        session.step([Chunk(slots[0], TOKEN_IDS[:3], 3)])
    assert set(numbers(graph)) == {-1}
    (other,) = session.new_slots(1, 600)  # other memory: other graphs
    decode(session, (other,), WORTH + 1)
    assert numbers(graph) == [-1] * WORTH + [3]


def test_too_many_sequences_are_not_worth_it(open_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_execution, "_MOST_SEQUENCES", 2)
    session, graph = open_session()
    slots = session.new_slots(3, 300)
    decode(session, slots, WORTH + 2)
    assert set(numbers(graph)) == {-1}
    decode(session, slots[:2], WORTH + 2)
    assert 1 in numbers(graph)


def test_logits_belong_to_the_caller_and_may_be_more_than_there_are_slots(open_session: Open) -> None:
    session, _ = open_session()
    plain, _ = open_session(captures=False)
    (slot,), (other,) = session.new_slots(1, 600), plain.new_slots(1, 600)
    for count in (10, 4, 12):
        slot.rewind(0)
        other.rewind(0)
        rows = session.run(slot, TOKEN_IDS[:count], count)
        assert np.array_equal(rows, plain.run(other, TOKEN_IDS[:count], count))
    kept = rows.copy()
    decode(session, (slot,), WORTH + 3)
    assert np.array_equal(rows, kept)


def test_all_runs_are_in_one_thread(open_session: Open) -> None:
    """What a thread has captured no other one can launch."""
    session, graph = open_session()
    slots = session.new_slots(1, 600)
    for _ in range(WORTH + 3):
        thread = threading.Thread(target=decode, args=(session, slots, 1))
        thread.start()
        thread.join()
    assert len({thread for _, thread in graph.runs}) == 1
    assert numbers(graph) == [-1] * WORTH + [1] * 3


def test_a_capture_that_fails_is_the_last(open_session: Open, caplog: pytest.LogCaptureFixture) -> None:
    session, graph = open_session()
    plain, _ = open_session(captures=False)
    slots, others = session.new_slots(2, 600), plain.new_slots(2, 600)
    graph.failure = RuntimeError("CUDA error 901: operation failed due to a previous error during capture")
    with caplog.at_level(logging.WARNING):
        found = decode(session, slots, WORTH + 3)
    assert numbers(graph) == [-1] * WORTH + [1, -1, -1, -1]
    assert all(np.array_equal(row, other) for row, other in zip(found, decode(plain, others, WORTH + 3), strict=True))
    (record,) = caplog.records
    assert "goes on without them (CUDA error 901" in record.getMessage()


def test_an_error_that_is_none_of_the_capture_is_raised(open_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    session, graph = open_session()
    slots = session.new_slots(1, 600)
    monkeypatch.setattr(graph, "run_with_iobinding", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    for _ in range(WORTH + 2):
        with pytest.raises(RuntimeFailed, match="out of memory"):
            decode(session, slots, 1)
    assert slots[0].cache.length == 0


def test_a_graph_that_is_refused_for_it_is_opened_without(open_session: Open, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        session, graph = open_session(refuse=True)
    (record,) = caplog.records
    assert "runs without CUDA graphs (RUNTIME_FAILED: opening the graph: This session cannot use" in record.getMessage()
    decode(session, session.new_slots(1, 600), WORTH + 3)
    assert set(numbers(graph)) == {0}


def test_a_closed_session_runs_nothing(open_session: Open) -> None:
    session, graph = open_session()
    slots = session.new_slots(1, 600)
    decode(session, slots, WORTH + 2)
    numbers(graph)
    session.close()
    with pytest.raises(ModelClosed):
        decode(session, slots, 1)
    assert numbers(graph) == []
