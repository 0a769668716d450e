"""The check for a GPU machine: its pieces join, it ends in time, and its report tells what failed."""

import hashlib
import json
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from paged_reference import CapturingGraph, PagedGraph
from rubricrm.runtime import providers, session
from rubricrm.runtime.graph_choice import GraphChoice
from rubricrm_bench.device_limits import measure_device_limits
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

GPU = Path(__file__).parents[2] / "benchmarks" / "gpu"
DEMO = GPU.parents[1] / "models" / "demo" / "checkpoint"


def script(name: str) -> ModuleType:
    module = __import__(name)
    assert Path(str(module.__file__)).parent == GPU
    return module


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(GPU)
    yield
    for name in ("captured_steps", "check", "gpu_recipes", "gpu_table", "many_sequences", "pack", "random_checkpoint"):
        sys.modules.pop(name, None)


def test_pieces_join_to_the_folder_and_have_their_hashes(tmp_path: Path) -> None:
    folder, output = tmp_path / "folder", tmp_path / "output"
    (folder / "wheels").mkdir(parents=True)
    output.mkdir()
    contents = np.random.default_rng(0).bytes(30_000)
    (folder / "wheels" / "one.whl").write_bytes(contents)
    count = script("pack").write_pieces(folder, output, 7_000)
    pieces = sorted(output.glob("piece-*"))
    assert len(pieces) == count > 4
    assert all(piece.stat().st_size <= 7_000 for piece in pieces)
    expected = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in pieces)
    assert (output / "pieces.sha256").read_text() == expected
    (tmp_path / "joined.tar").write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    with tarfile.open(tmp_path / "joined.tar") as tar:
        member = tar.extractfile("wheels/one.whl")
        assert member is not None
        assert member.read() == contents
    assert sorted(path.name for path in output.iterdir()) == [*(p.name for p in pieces), "pieces.sha256"]


def test_the_random_checkpoint_is_a_checkpoint(tmp_path: Path) -> None:
    module = script("random_checkpoint")
    module.write_checkpoint(tmp_path / "random", module.SHAPES["tiny"], DEMO)
    with Checkpoint.open(tmp_path / "random") as checkpoint:
        architecture = checkpoint.architecture
        assert (architecture.hidden_size, architecture.num_layers, architecture.head_dim) == (256, 2, 64)


def test_a_rehearsal_compares_and_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = script("check")
    monkeypatch.setattr(check, "RECIPES", (replace(check.RECIPES[0], together=(1, 3)),))
    monkeypatch.setattr(check, "NEW_TOGETHER", 8)
    monkeypatch.setattr(check, "ONE_A_RUN", (2,))
    monkeypatch.setattr(check, "PROMPT_TOKENS", 20)
    monkeypatch.setattr(check, "NEW_TOKENS", 8)
    monkeypatch.setattr(check, "card", lambda: None)
    monkeypatch.setattr(sys, "argv", ["check.py", str(tmp_path / "out")])
    assert check.main() == 0
    report = json.loads((tmp_path / "out" / "gpu-rehearsal.json").read_text())
    assert report["is_rehearsal"]
    (row,) = report["rows"]
    assert row["name"] == "fp16"
    assert 0 <= row["demo"]["kl"] < 1e-3
    assert row["large"]["row"]["tpot_ms"]["n"] == 3
    assert 0 <= row["steps"]["kl"] < 1e-3
    compared = row["steps"]["many"]["compared"]
    assert (compared["answers"], compared["tokens"]) == (12, 8)
    # Where answers part, the two best tokens are nearly equal.
    assert all(0 <= gap < 0.05 for gaps in compared["gaps_where_different"].values() for gap in gaps)
    many = row["many"]
    assert [[found["sequences"] for found in many[file]["rows"]] for file in many] == [[1, 3], [2]]
    assert [many[file]["kv_update"] for file in many] == ["slots", "shared"]
    assert all(found["tokens_per_s"] > 0 for file in many for found in many[file]["rows"])
    text = (tmp_path / "out" / "gpu-rehearsal.md").read_text()
    assert text.startswith("# Rehearsal on the CPU provider: no GPU\n")
    assert "| fp16 | slots | 3 | " in text
    assert not (tmp_path / "out" / "work").exists()


def test_a_paged_graph_is_measured_by_a_stand_in_for_its_operator(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything of a GPU's measurement but the GPU."""
    checkpoint = str(tiny_bundle.with_name("checkpoint"))
    bundle = export_onnx(OnnxExport(checkpoint, tmp_path / "bundle", target="cuda", weights="fp16"))
    choice = GraphChoice(bundle.manifest.graphs[0], "cpu")
    monkeypatch.setattr(session, "choose", lambda *_, **__: choice)
    monkeypatch.setattr(session, "open_graph", lambda path, **_: PagedGraph(path))
    many = script("many_sequences")
    subject = many.Subject(bundle.path, "model.step.onnx", "cuda")
    assert subject.session.facts.kv_update == "paged"
    assert many.compare(subject, subject, 3)["gaps_where_different"] == {"alone": [], "together": []}
    one, three = many.attempts(subject, [1, 3], 4)
    assert one["newcomer"] is None
    assert all(value > 0 for value in three["newcomer"].values())
    assert min(one["tokens_per_s"], three["tokens_per_s"], one["step_ms"], three["step_ms"]) > 0


def test_captured_steps_are_compared_by_a_stand_in_for_the_device(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(tiny_bundle.with_name("checkpoint"))
    bundle = export_onnx(OnnxExport(checkpoint, tmp_path / "bundle", target="cuda", weights="fp16"))
    graph = bundle.manifest.graphs[0]
    monkeypatch.setitem(providers.DEVICES, "cuda", providers.Device("CPUExecutionProvider", "cpu", captures=True))
    monkeypatch.setattr(session, "choose", lambda *_, **__: GraphChoice(graph, "cuda"))
    monkeypatch.setattr(
        session,
        "open_graph",
        lambda path, provider_options=None, **_: CapturingGraph(path, captures=provider_options is not None),
    )
    captured = script("captured_steps")
    for name, value in (("LENGTHS", ((5, 250),)), ("NEW_ALIKE", 10), ("NEW_ANSWERED", 3), ("ROUNDS", 1), ("STEPS", 2)):
        monkeypatch.setattr(captured, name, value)
    options = captured.argparse.Namespace(answers=True, counts=[2], past=20, engine=[])
    captured.run(captured.open_pair(bundle.path, "cuda"), options, time.monotonic() + 600)
    logits, alone, together, steps, *copies = map(json.loads, capsys.readouterr().out.splitlines())
    assert (logits["same_bits"], logits["graphs"]) == (10, [[2, 2]])
    assert alone["gaps_where_different"] == together["gaps_where_different"] == []
    assert steps["graphs"] == [[2, 1]]  # its slots have one block
    assert min(steps["with_ms"]["least"], steps["without_ms"]["least"], steps["reading_logits_ms"]["least"]) > 0
    assert all("libcuda" in row["error"] for row in copies)  # no driver here, and a row that fails ends nothing


def test_no_row_starts_when_the_time_is_up_and_the_report_says_so(tmp_path: Path) -> None:
    check = script("check")
    late = check.Check(tmp_path, "cpu", "tiny", time.monotonic() - 1)
    assert check.attempt(late.run, "eval", "--version") == {"error": "not run: the time is up"}
    slow = check.Check(tmp_path, "cpu", "tiny", time.monotonic() + 0.05)
    assert check.attempt(slow.run, "eval", "--version") == {"error": "stopped: the time is up"}


def test_a_command_that_fails_is_a_row_and_its_log_is_kept(tmp_path: Path) -> None:
    check = script("check")
    run = check.Check(tmp_path, "cpu", "tiny", time.monotonic() + 60)
    found = check.attempt(run.run, "inspect", "inspect", str(tmp_path / "nothing"))
    assert "BUNDLE_NOT_FOUND" in found["error"]
    assert "BUNDLE_NOT_FOUND" in (tmp_path / "inspect.log").read_text()


def test_the_table_shows_errors_in_their_rows() -> None:
    report = {
        "card": {"name": "NVIDIA H100", "driver_version": "580"},
        "is_rehearsal": False,
        "versions": {"onnxruntime-gpu": "1.31.1"},
        "seconds": 1.0,
        "shape": {"name": "4b"},
        "rows": [
            {
                "name": "fp8, KV fp8",
                "demo": {"error": "no kernel"},
                "large": {"error": "not run: the time is up"},
                "steps": {"many": {"error": "stopped"}, "kl": 0.1, "top1_agreement": 1.0},
                "many": {
                    "model.step.onnx": {"kv_update": "paged", "rows": [{"sequences": 32, "error": "no memory"}]},
                    "model.onnx": {"error": "no device"},
                },
            }
        ],
    }
    text = script("gpu_table").to_markdown(report)
    assert "# GPU check: NVIDIA H100, driver 580" in text
    assert "| fp8, KV fp8 | no kernel | | | |" in text
    assert "| fp8, KV fp8 | not run: the time is up |" in text
    assert "| fp8, KV fp8 | 0.1 | 100.00% | stopped | | | |" in text
    assert "| fp8, KV fp8 | paged | 32 | no memory |" in text
    assert "| fp8, KV fp8 | model.onnx | no device |" in text


def test_limits_of_a_device_are_measured_through_the_runtime() -> None:
    limits = measure_device_limits("cpu", copy_elements=1 << 16, gemm_side=64)
    assert limits.read_bytes == 2 * 2 * (1 << 16)
    assert limits.read_bytes_per_s > 0
    assert limits.flops_per_s > 0
