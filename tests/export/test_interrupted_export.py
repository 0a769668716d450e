"""Exports that are interrupted: what lies there afterwards, and the same bytes once they are continued.

Real processes are killed at four random moments; RUBRICRM_KILLS=20 in the environment makes it twenty, spread more
finely over the duration of an unbroken run.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid, OutputExists
from rubricrm.runtime.bundle import Bundle
from rubricrm_export.calibrate.resume import ResumeDirectory
from rubricrm_export.errors import ExportFailed
from rubricrm_export.measure import evaluation, rubric_agreement
from rubricrm_export.onnx_bundle import calibration_run
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx
from safetensors.numpy import load_file, save_file

MakeCheckpoint = Callable[..., Path]
Event = tuple[str, int]

KILLS = int(os.environ.get("RUBRICRM_KILLS", "4"))
COMMAND = [sys.executable, "-c", "from rubricrm.cli import main; main()", "export", "onnx"]
LAYERS = 4


@pytest.fixture
def inputs(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> dict[str, Any]:
    """Options of a calibrated export that takes a second: a checkpoint of four layers, one window of text."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    checkpoint = make_checkpoint(num_hidden_layers=LAYERS, hidden_size=32, intermediate_size=32, **heads)
    (tmp_path / "calibration.txt").write_text("A request, and what a good answer to it says. " * 12)
    (tmp_path / "eval.txt").write_text("Other words, held out. " * 6)
    return {
        "source": str(checkpoint),
        "weights": "int4",
        "method": "gptq",
        "block_size": "32",
        "calibration": str(tmp_path / "calibration.txt"),
        "eval_text": tmp_path / "eval.txt",
        "rubrics": False,
    }


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(directory.iterdir())}


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def export(target: Path, options: dict[str, Any], **changed: Any) -> Bundle:
    return export_onnx(OnnxExport(output=target, **options | changed))


class Interrupt:
    """A progress callback that raises at one of the events."""

    def __init__(self, error: type[BaseException], event: Event | None) -> None:
        self.events: list[Event] = []
        self._error, self._event = error, event

    def __call__(self, stage: str, done: int, _: int) -> None:
        self.events.append((stage, done))
        if self._event == (stage, done):
            raise self._error(1)


def chosen_events(events: list[Event]) -> list[Event]:
    """Every event of the layers; of other stages the first one, and of the last stage the last one."""
    stages = dict.fromkeys(stage for stage, _ in events)
    chosen: list[Event] = []
    for stage in stages:
        of_stage = list(dict.fromkeys(event for event in events if event[0] == stage))
        chosen += of_stage if "layers" in stage else of_stage[:1]
    return [*chosen, events[-1]]


def interrupt(target: Path, options: dict[str, Any], event: Event, **changed: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        export_onnx(OnnxExport(output=target, **options | changed), Interrupt(KeyboardInterrupt, event))


def interrupted(directory: Path, options: dict[str, Any], layers: int = 0) -> Path:
    """Return a target beside which an export lies that was interrupted after so many layers."""
    directory.mkdir()
    interrupt(directory / "bundle", options, ("Calibrating layers", layers))
    assert names(directory) == ["bundle.resume"]
    return directory / "bundle"


# --- interrupted at every stage, in this process


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        pytest.param({}, {"Calibrating layers", "Writing weights", "Choosing accuracy levels"}, id="gptq of a file"),
        pytest.param(
            {"method": "awq", "calibration": "self", "kv": "int8", "rubrics": True},
            {"Making a writer", "Writing text", "Calibrating layers", "Making a reference", "Rubrics of the bundle"},
            id="awq of own text, with rubrics",
        ),
        pytest.param(
            {"weights": "fp8", "activations": "fp8", "kv": "fp8", "method": None, "block_size": None, "target": "cuda"},
            {"Calibrating layers", "Writing weights", "Making a twin for the CPU", "Comparing"},
            id="fp8 for cuda, with a twin",
        ),
    ],
)
def test_interrupted_again_and_again_it_gives_the_bytes_of_an_unbroken_run(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], stages: set[str]
) -> None:
    monkeypatch.setattr(calibration_run, "_NUM_REQUESTS", 2)
    monkeypatch.setattr(evaluation, "NUM_REQUESTS", 1)
    monkeypatch.setattr(rubric_agreement, "_MAX_NEW_TOKENS", 8)
    options = inputs | changed
    whole, broken = tmp_path / "whole" / "bundle", tmp_path / "broken" / "bundle"
    unbroken = Interrupt(KeyboardInterrupt, None)
    export_onnx(OnnxExport(output=whole, **options), unbroken)
    assert names(whole.parent) == ["bundle"]
    assert {stage for stage, _ in unbroken.events} >= stages
    # The text that the unbroken run left in the cache would hide the stages that write it.
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "other cache"))
    for number, event in enumerate(chosen_events(unbroken.events)):
        error = (KeyboardInterrupt, SystemExit)[number % 2]
        with pytest.raises(error):
            export_onnx(OnnxExport(output=broken, **options, resume=True), Interrupt(error, event))
        assert names(broken.parent) == ["bundle.resume"], event
    resumed = Interrupt(KeyboardInterrupt, None)
    export_onnx(OnnxExport(output=broken, **options, resume=True), resumed)
    assert [done for stage, done in resumed.events if stage == "Calibrating layers"] == [LAYERS]
    assert contents(broken) == contents(whole)
    assert names(broken.parent) == ["bundle"]
    Bundle.open(broken, verify=True)


def test_text_in_the_cache_is_used_if_it_is_sound_and_written_again_if_not(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(0o700)
    monkeypatch.setenv("RUBRICRM_CACHE", str(cache))
    monkeypatch.setattr(calibration_run, "_NUM_REQUESTS", 1)
    stages = []
    for number in range(3):
        events = Interrupt(KeyboardInterrupt, None)
        export_onnx(OnnxExport(output=tmp_path / f"{number}", **inputs | {"calibration": "self"}), events)
        stages.append({stage for stage, _ in events.events})
        (kept,) = (cache / "calibration").iterdir()
        if number == 1:  # a token of it is another one
            document = json.loads(kept.read_text())
            document["sequences"][0][0] += 1
            kept.write_text(json.dumps(document))
    assert ["Writing text" in found for found in stages] == [True, False, True]
    assert f"{kept} is damaged (its hash is of other token sequences)" in caplog.text
    assert contents(tmp_path / "0") == contents(tmp_path / "2")


def test_interrupted_between_a_layer_and_its_activations(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole" / "bundle", tmp_path / "broken" / "bundle"
    export(whole, inputs)
    save_stream = ResumeDirectory.save_stream

    def killed(directory: ResumeDirectory, layers: int, *streams: np.ndarray) -> None:
        if layers == 3:
            raise KeyboardInterrupt
        save_stream(directory, layers, *streams)

    with monkeypatch.context() as patched:
        patched.setattr(ResumeDirectory, "save_stream", killed)
        with pytest.raises(KeyboardInterrupt):
            export(broken, inputs)
    assert names(broken.parent) == ["bundle.resume"]
    assert "layer-00002.safetensors" in names(broken.parent / "bundle.resume")
    export(broken, inputs, resume=True)
    assert contents(broken) == contents(whole)


def test_interrupted_while_the_leftovers_are_removed(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree, removing = shutil.rmtree, []

    def once_interrupted(path: Path, **options: Any) -> None:
        if "writing" in path.name and path.exists() and not removing:
            removing.append(path)
            raise SystemExit(143)
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", once_interrupted)
    with pytest.raises(SystemExit):
        export(tmp_path / "new" / "bundle", inputs, max_kl=0.0)
    assert removing
    assert names(tmp_path / "new") == ["bundle.resume"]


# --- what is refused


def test_interrupted_export_is_refused_without_resume(inputs: dict[str, Any], tmp_path: Path) -> None:
    target = interrupted(tmp_path / "new", inputs)
    before = contents(tmp_path / "new" / "bundle.resume")
    with pytest.raises(OutputExists, match=r"bundle\.resume: .* --resume .* --force"):
        export(target, inputs)
    assert contents(tmp_path / "new" / "bundle.resume") == before


def test_force_starts_anew(inputs: dict[str, Any], tmp_path: Path) -> None:
    target = interrupted(tmp_path / "new", inputs)
    progress = Interrupt(KeyboardInterrupt, None)
    export_onnx(OnnxExport(output=target, **inputs | {"method": "awq"}, force=True), progress)
    assert ("Calibrating layers", 0) in progress.events
    assert names(tmp_path / "new") == ["bundle"]


def test_resume_where_nothing_was_interrupted_begins(inputs: dict[str, Any], tmp_path: Path) -> None:
    export(tmp_path / "new" / "bundle", inputs, resume=True)
    assert names(tmp_path / "new") == ["bundle"]


def test_resume_of_a_replacement(inputs: dict[str, Any], tmp_path: Path) -> None:
    target, whole = tmp_path / "new" / "bundle", tmp_path / "whole" / "bundle"
    export(whole, inputs)
    export(target, inputs, method="rtn")
    old = contents(target)
    interrupt(target, inputs, ("Calibrating layers", 2), force=True)
    assert names(tmp_path / "new") == ["bundle", "bundle.resume"]
    assert contents(target) == old
    with pytest.raises(OutputExists, match="Pass --force to replace it"):
        export(target, inputs, resume=True)
    progress = Interrupt(KeyboardInterrupt, None)
    export_onnx(OnnxExport(output=target, **inputs, resume=True, force=True), progress)
    assert ("Calibrating layers", 1) not in progress.events
    assert contents(target) == contents(whole)
    assert names(tmp_path / "new") == ["bundle"]


@pytest.mark.parametrize("changed", [{"method": None}, {"method": "rtn"}, {"weights": None, "method": None}])
def test_resume_where_nothing_is_calibrated(inputs: dict[str, Any], tmp_path: Path, changed: dict[str, Any]) -> None:
    options = inputs | changed | ({"block_size": None} if "weights" in changed else {})
    with pytest.raises(OptionInvalid, match="--resume continues a calibration, and this export has none"):
        export(tmp_path / "new" / "bundle", options, resume=True)
    assert names(tmp_path / "new") == []


def touch_weights(options: dict[str, Any]) -> None:
    os.utime(Path(options["source"]) / "model.safetensors", (1, 1))


def change_weights(options: dict[str, Any]) -> None:
    path = Path(options["source"]) / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] *= 2
    save_file(tensors, path)


def change_calibration(options: dict[str, Any]) -> None:
    with Path(options["calibration"]).open("a") as file:
        file.write(" And more.")


def change_prompt(options: dict[str, Any]) -> None:
    card = Path(options["source"]) / "README.md"
    card.write_text(card.read_text().replace("Write the rubric", "Write a rubric"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda o: o.update(method="awq"), "option method differs", id="method"),
        pytest.param(lambda o: o.update(block_size="64"), "option block_size differs", id="block size"),
        pytest.param(lambda o: o.update(kv="int8"), "option kv differs", id="kv"),
        pytest.param(lambda o: o.update(symmetric=True), "option symmetric differs", id="symmetric"),
        pytest.param(touch_weights, "file model.safetensors differs", id="time of the weights"),
        pytest.param(change_weights, "file model.safetensors differs", id="weights"),
        pytest.param(change_calibration, "calibration text differs", id="calibration text"),
        pytest.param(change_prompt, "prompt template differs", id="prompt"),
    ],
)
def test_other_options_or_files_are_refused(
    inputs: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    target = interrupted(tmp_path / "new", inputs)
    before = contents(tmp_path / "new" / "bundle.resume")
    change(inputs)
    with pytest.raises(OptionInvalid, match=rf"bundle\.resume: .*{words}.*--force without --resume"):
        export(target, inputs, resume=True)
    assert contents(tmp_path / "new" / "bundle.resume") == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def shorten_text(path: Path) -> None:
    path.write_text('{"name": "x", "prefix": [], "sequences": [[1, 2, 3]]}')


def too_many_layers(path: Path) -> None:
    save_file(load_file(path), path, {"layers": "9"})


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("job.json", cut),
        ("text.json", cut),
        ("text.json", shorten_text),
        ("stream.safetensors", cut),
        ("stream.safetensors", too_many_layers),
        ("layer-00000.safetensors", cut),
        ("layer-00001.safetensors", Path.unlink),
    ],
)
def test_damaged_file_is_one_line_with_a_remedy(
    inputs: dict[str, Any], tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    target = interrupted(tmp_path / "new", inputs, 2)
    damage(tmp_path / "new" / "bundle.resume" / name)
    result = run(target, inputs, "--resume")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: EXPORT_FAILED: ")
    assert "bundle.resume" in line
    assert "--force without --resume" in line
    assert names(tmp_path / "new") == ["bundle.resume"]


def test_calibration_that_cannot_begin_leaves_nothing(inputs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "calibration.txt").write_text("too short")
    for calibration in ("calibration.txt", "gone.txt"):
        with pytest.raises(OptionInvalid, match=calibration):
            export(tmp_path / "new" / "bundle", inputs, calibration=str(tmp_path / calibration))
    assert names(tmp_path / "new") == []


def test_full_disk_during_calibration(inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("rubricrm_export.calibrate.resume.save_tensors", full)
        with pytest.raises(ExportFailed, match=r"bundle\.resume: cannot be written .*No space left"):
            export(tmp_path / "new" / "bundle", inputs)
    assert names(tmp_path / "new") == ["bundle.resume"]
    export(tmp_path / "new" / "bundle", inputs, resume=True)


# --- processes that are killed


def arguments(target: Path, options: dict[str, Any]) -> list[str]:
    words = [options["source"], "-o", str(target), "--weights", options["weights"], "--block-size", "32"]
    if options["method"] is not None:
        words += ["--method", options["method"]]
    words += ["--calibration", options["calibration"], "--eval-text", str(options["eval_text"])]
    return [*words, "--no-rubrics"]


def run(target: Path, options: dict[str, Any], *more: str) -> Result:
    return CliRunner().invoke(cli, ["export", "onnx", *arguments(target, options), *more])


def unbroken_process(target: Path, options: dict[str, Any]) -> tuple[float, float]:
    """Make a bundle; return after how many seconds something lay there, and after how many it ended."""
    target.parent.mkdir()
    start, begun = time.monotonic(), 0.0
    command = [*COMMAND, *arguments(target, options)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if not begun and names(target.parent):
                begun = time.monotonic() - start
            time.sleep(0.01)
    assert process.returncode == 0
    return begun, time.monotonic() - start


def kill(target: Path, options: dict[str, Any], number: signal.Signals, after: float) -> int:
    """Start an export, send it a signal after so many seconds, and return its exit code."""
    command = [*COMMAND, *arguments(target, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            _, stderr = process.communicate(timeout=120)
            assert "Traceback" not in stderr
            assert process.returncode in (0, -number, 128 + number), f"{number.name} after {after:.2f} s: {stderr}"
    return process.returncode


def moments(count: int, begun: float, ended: float) -> list[float]:
    """Random moments in random order: one of eight while Python starts, the others spread over the work."""
    rng = random.Random(20)
    early = count // 8
    chosen = [rng.random() * begun for _ in range(early)]
    chosen += [begun + (part + rng.random()) * (ended - begun) / (count - early) for part in range(count - early)]
    rng.shuffle(chosen)
    return chosen


def test_killed_processes_leave_no_wrong_bundle_and_can_be_continued(inputs: dict[str, Any], tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "bundle"
    begun, ended = unbroken_process(whole, inputs)
    expected = contents(whole)
    outcomes: dict[str, int] = {}
    for number, moment in enumerate(moments(KILLS, begun, ended)):
        sent = (signal.SIGTERM, signal.SIGKILL)[number % 2]
        target = tmp_path / f"killed-{number}" / "bundle"
        target.parent.mkdir()
        code = kill(target, inputs, sent, moment)
        left = names(target.parent)
        case = f"{sent.name} after {moment:.2f} of {ended:.2f} s: exit code {code}, left {left}"
        outcome = " and ".join("a hidden sibling" if name.startswith(".") else name for name in left) or "nothing"
        outcomes[f"{sent.name} left {outcome}"] = outcomes.get(f"{sent.name} left {outcome}", 0) + 1
        if "bundle" in left:
            Bundle.open(target, verify=True)
            assert contents(target) == expected, case
        if sent == signal.SIGTERM:
            assert left in ([], ["bundle.resume"], ["bundle"]), case
        if left != ["bundle"]:
            # Where the bundle was finished, but not all that lay beside it was gone, it has to be replaced.
            result = run(target, inputs, "--resume", *(["--force"] if "bundle" in left else []))
            assert result.exit_code == 0, (case, result.output)
        assert contents(target) == expected, case
        assert names(target.parent) == ["bundle"], case
    print(f"{KILLS} kills, work from {begun:.2f} to {ended:.2f} s:", outcomes)


def test_terminated_process_without_calibration_leaves_nothing(inputs: dict[str, Any], tmp_path: Path) -> None:
    options = inputs | {"method": None}
    whole = tmp_path / "whole" / "bundle"
    begun, ended = unbroken_process(whole, options)
    for number, moment in enumerate(moments(max(2, KILLS // 4), begun, ended)):
        target = tmp_path / f"killed-{number}" / "bundle"
        target.parent.mkdir()
        kill(target, options, signal.SIGTERM, moment)
        assert names(target.parent) in ([], ["bundle"])
        if target.exists():
            assert contents(target) == contents(whole)


# A shell's background job ignores Ctrl-C, and so would what it starts.
WAITING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from rubricrm_export.calibrate import calibrated_weights
from rubricrm_export.onnx_bundle import export
def wait(*_, **__):
    print("here", flush=True)
    signal.pause()
"""


KILLED = (signal.SIGKILL, "quality")


@pytest.mark.parametrize(
    ("number", "step"), [(signal.SIGTERM, "layer"), (signal.SIGTERM, "quality"), KILLED, (signal.SIGINT, "layer")]
)
def test_killed_at_a_known_step(inputs: dict[str, Any], tmp_path: Path, number: signal.Signals, step: str) -> None:
    place = "calibrated_weights.require_finite" if step == "layer" else "export.measure_export"
    script = f"{WAITING}{place} = wait\n{COMMAND[2]}"
    target = tmp_path / "new" / "bundle"
    command = [sys.executable, "-c", script, *COMMAND[3:], *arguments(target, inputs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        _, stderr = process.communicate(timeout=120)
    expected = {signal.SIGTERM: (143, ""), signal.SIGKILL: (-9, ""), signal.SIGINT: (130, "Interrupted.\n")}
    assert (process.returncode, stderr) == expected[number]
    *hidden, resume = names(tmp_path / "new")
    assert [name.rpartition("-")[0] for name in hidden] == [".bundle.writing"] * ((number, step) == KILLED)
    assert resume == "bundle.resume"
    # The next export removes what was hidden, even if it is interrupted too.
    interrupt(target, inputs, ("Calibrating layers", LAYERS), resume=True)
    assert names(tmp_path / "new") == ["bundle.resume"]
