"""The session: what it refuses, and that chunks and rows do not change the numbers."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rubricrm import RubricModel
from rubricrm.bundle import Bundle
from rubricrm.errors import ModelClosed, OptionInvalid, RubricrmError, RuntimeFailed, RuntimeMissing
from rubricrm.session import Session, runtime_facts

EditManifest = Callable[[Callable[[dict[str, Any]], object]], Path]

TOKEN_IDS = [5 + (7 * n) % 250 for n in range(70)]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> Iterator[Session]:
    session = Session(bundle, threads=1)
    yield session
    session.close()


@pytest.mark.parametrize("device", ["tpu", "", "CPU", "cuda"])
def test_an_unknown_device_is_refused(bundle: Bundle, device: str) -> None:
    with pytest.raises(OptionInvalid, match=f"device must be one of cpu, got '{device}'"):
        Session(bundle, device=device)


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**12, True, 1.5, "2"], ids=repr)
def test_threads_out_of_range_are_refused(bundle: Bundle, threads: Any) -> None:
    with pytest.raises(OptionInvalid, match=f"threads must be an integer from 1 to 1024, got {threads!r}"):
        Session(bundle, threads=threads)


def test_the_threads_default_to_the_usable_cores(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rubricrm.session.usable_cores", lambda: 3)
    session = Session(bundle)
    assert session.threads == 3
    session.close()


def test_a_bundle_for_another_device_is_refused(edit_manifest: EditManifest) -> None:
    path = edit_manifest(lambda document: document["graph"].update(target="cuda"))
    with pytest.raises(OptionInvalid, match="was exported for cuda, cannot run on cpu. Export with --target cpu"):
        RubricModel.open(path)


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
    "other-cache-type": lambda document: document["graph"].update(kv_type="float16"),
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


def test_a_missing_runtime_names_both_extras(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for use in (lambda: Session(bundle), runtime_facts):
        with pytest.raises(RuntimeMissing, match=r"pip install 'rubricrm\[cpu\]', or 'rubricrm\[gpu\]' for a CUDA GPU"):
            use()


def test_the_runtime_tells_its_version_and_providers() -> None:
    facts = runtime_facts()
    assert facts["onnxruntime"].count(".") >= 2
    assert "CPUExecutionProvider" in facts["providers"]


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
