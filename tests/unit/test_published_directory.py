"""A bundle appears whole or not at all: refusals, failures half-way, kills, and what the next export cleans up."""

import ctypes
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_kernels import KV_TYPE
from rubricrm.errors import OutputExists, RubricrmError, WriteFailed
from rubricrm.runtime import published_directory
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.published_directory import (
    check_output,
    check_space,
    describe_files,
    scratch_directory,
    whole_directory,
)
from rubricrm_export.errors import CheckpointUnsupported
from rubricrm_export.graph.streamed_tensor import StreamedTensor
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx, plan_onnx

MakeCheckpoint = Callable[..., Path]
DiskUsage = namedtuple("DiskUsage", "total used free")


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(directory.iterdir())}


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def export(checkpoint: Path, target: Path, *, force: bool = False) -> Bundle:
    return export_onnx(OnnxExport(str(checkpoint), target, force=force))


# --- which targets are written


def test_new_target_and_its_missing_parents(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "bundle"
    assert export(make_checkpoint(), target).path == target
    assert names(target.parent) == ["bundle"]


def test_bundle_is_kept_without_force(bundle_copy: Path) -> None:
    before = contents(bundle_copy)
    with pytest.raises(OutputExists, match="exists. Pass --force to replace it"):
        check_output(bundle_copy, force=False)
    assert contents(bundle_copy) == before


def test_force_replaces_the_whole_bundle(make_checkpoint: MakeCheckpoint, bundle_copy: Path) -> None:
    (bundle_copy / "left over.bin").write_bytes(b"of an older version")
    checkpoint = make_checkpoint(dtype="F16")
    assert export(checkpoint, bundle_copy, force=True).manifest.quantization.weights == "fp16"
    Bundle.open(bundle_copy, verify=True)
    assert names(bundle_copy.parent) == ["bundle", "checkpoint"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["empty directory", "foreign directory", "file", "checkpoint"])
def test_what_is_no_bundle_is_never_replaced(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, kind: str, force: bool
) -> None:
    target = make_checkpoint() if kind == "checkpoint" else tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    elif kind != "checkpoint":
        target.mkdir()
        if kind == "foreign directory":
            (target / "mine.txt").write_text("mine")
    with pytest.raises(OutputExists, match="exists and is not a bundle: it is never replaced"):
        check_output(target, force=force)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["bundle", "nothing"])
def test_link_is_never_replaced(bundle_copy: Path, tmp_path: Path, kind: str, force: bool) -> None:
    link = tmp_path / "current"
    link.symlink_to(bundle_copy if kind == "bundle" else tmp_path / "gone")
    with pytest.raises(OutputExists, match=r"is a link, which is never replaced\. Pass the path that it leads to"):
        check_output(link, force=force)


def test_target_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with pytest.raises(OutputExists), whole_directory(target, force=False):  # noqa: PT012 - what happens in between
        target.mkdir()
        (target / "mine.txt").write_text("mine")
    assert contents(target) == {"mine.txt": b"mine"}
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("target", [".", "..", "inner/.."])
def test_working_directory_is_never_replaced(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    inner = bundle_copy / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner if target == ".." else bundle_copy)
    with pytest.raises(OutputExists, match="is in use as the working directory"):
        check_output(Path(target), force=True)


def test_target_named_by_way_of_another_directory(make_checkpoint: MakeCheckpoint, bundle_copy: Path) -> None:
    checkpoint = make_checkpoint(dtype="F32")
    export(checkpoint, checkpoint / ".." / "bundle", force=True)
    assert Bundle.open(bundle_copy, verify=True).manifest.quantization.weights == "fp32"


def test_every_file_has_the_usual_rights(tiny_bundle: Path) -> None:
    modes = {p.name: oct(stat.S_IMODE(p.stat().st_mode)) for p in tiny_bundle.iterdir()}
    assert set(modes.values()) == {modes["rubricrm.json"]}
    assert f"prefix.rubric.{KV_TYPE}.safetensors" in modes


def test_described_files_are_all_but_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "rubricrm.json").write_bytes(b"{}")
    facts = describe_files(tmp_path)
    assert list(facts) == ["a"]
    assert facts["a"].size == 3
    assert facts["a"].sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- what failed exports leave


def test_disk_that_is_too_small(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**9, 10**9, 1000))
    with pytest.raises(WriteFailed, match=r"the disk has 1.00 KB free, the bundle needs 3\d\.\d MB\. Free some"):
        export(checkpoint, tmp_path / "bundle")
    assert names(tmp_path) == ["checkpoint"]


def test_space_is_counted_with_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(0, 0, 100 << 20))
    check_space(tmp_path / "bundle", 60 << 20)
    with pytest.raises(WriteFailed, match="has 105 MB free, the bundle needs 137 MB"):
        check_space(tmp_path / "bundle", 99 << 20)


FAILURES = [
    pytest.param(OSError(errno.ENOSPC, "No space left on device"), WriteFailed, "the disk is full", id="disk full"),
    pytest.param(OSError(errno.EDQUOT, "Quota exceeded"), WriteFailed, "the disk is full", id="quota"),
    pytest.param(OSError(errno.EIO, "Input/output error"), WriteFailed, "cannot be written .*Input/output", id="I/O"),
    pytest.param(KeyboardInterrupt(), KeyboardInterrupt, "^", id="Ctrl-C"),
    pytest.param(MemoryError(), MemoryError, "^", id="memory"),
]


@pytest.mark.parametrize("step", ["weights", "manifest", "publishing"])
@pytest.mark.parametrize(("failure", "expected", "words"), FAILURES)
@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing"])
def test_failure_leaves_the_old_bundle_or_none(
    make_checkpoint: MakeCheckpoint,
    bundle_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    failure: BaseException,
    expected: type[BaseException],
    words: str,
    replacing: bool,
) -> None:
    checkpoint = make_checkpoint()
    old = contents(bundle_copy)
    if not replacing:
        shutil.rmtree(bundle_copy)
    place: tuple[Any, str] = {
        "weights": (StreamedTensor, "tofile"),
        "manifest": (published_directory, "describe_file"),
        "publishing": (published_directory, "_publish"),
    }[step]

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(*place, fail)
    with pytest.raises(expected, match=words):
        export(checkpoint, bundle_copy, force=replacing)
    assert names(bundle_copy.parent) == (["bundle", "checkpoint"] if replacing else ["checkpoint"])
    if replacing:
        assert contents(bundle_copy) == old


@pytest.mark.parametrize("failure", [OSError(errno.EACCES, "Permission denied"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", [1, 2], ids=["moving aside", "moving in"])
def test_failed_renames_restore_the_old_bundle(
    make_checkpoint: MakeCheckpoint,
    bundle_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    failing: int,
) -> None:
    checkpoint, old = make_checkpoint(), contents(bundle_copy)
    monkeypatch.setattr(published_directory, "_exchange", lambda *_: False)
    rename, targets = Path.rename, []

    def rename_once_failing(path: Path, target: Path) -> Path:
        if path.name in ("output", "replaced") or path == bundle_copy:
            targets.append(target)
            if len(targets) == failing:
                raise failure
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_once_failing)
    with pytest.raises((WriteFailed, KeyboardInterrupt)):
        export(checkpoint, bundle_copy, force=True)
    assert contents(bundle_copy) == old
    assert names(bundle_copy.parent) == ["bundle", "checkpoint"]


def test_bundle_is_replaced_where_the_system_cannot_exchange(
    make_checkpoint: MakeCheckpoint, bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(dtype="F16")

    def no_library(_: object) -> object:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert export(checkpoint, bundle_copy, force=True).manifest.quantization.weights == "fp16"
    Bundle.open(bundle_copy, verify=True)
    assert names(bundle_copy.parent) == ["bundle", "checkpoint"]


def test_everything_is_on_the_disk_before_the_output_gets_its_name(
    make_checkpoint: MakeCheckpoint, bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    publish = published_directory._publish

    def published(directory: Path, output: Path) -> None:
        assert {*directory.iterdir(), directory} == {*synced}
        synced.clear()
        publish(directory, output)

    monkeypatch.setattr(published_directory, "sync", synced.append)
    monkeypatch.setattr(published_directory, "_publish", published)
    export(make_checkpoint(), bundle_copy, force=True)
    assert synced == [bundle_copy.parent]


def test_disk_that_fails_when_it_is_waited_for_publishes_nothing(
    make_checkpoint: MakeCheckpoint, bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, old = make_checkpoint(dtype="F16"), contents(bundle_copy)

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(published_directory, "sync", fail)
    with pytest.raises(WriteFailed, match="bundle: cannot be written .Input/output error"):
        export(checkpoint, bundle_copy, force=True)
    assert contents(bundle_copy) == old


@pytest.mark.parametrize("tensor", ["model.norm.weight", "model.embed_tokens.weight"], ids=["small", "large"])
def test_refused_weight_leaves_nothing(make_checkpoint: MakeCheckpoint, tmp_path: Path, tensor: str) -> None:
    checkpoint = make_checkpoint(dtype="F32", change=lambda t: t[tensor].fill(1e5))
    with pytest.raises(CheckpointUnsupported, match=rf"{tensor}: holds 100000, beyond 65504.* --weights bf16 or fp32"):
        # For the CPU a norm's weight is stored in float32.
        export_onnx(OnnxExport(str(checkpoint), tmp_path / "bundle", weights="fp16", target="cuda"))
    assert names(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize("name", ["file/bundle", "file/parent/bundle", "x" * 300, "x" * 250])
def test_target_that_cannot_be_made(make_checkpoint: MakeCheckpoint, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    checkpoint = make_checkpoint()
    with pytest.raises(WriteFailed, match="cannot be written"):
        export(checkpoint, tmp_path / name)
    assert names(tmp_path) == ["checkpoint", "file"]


def test_parent_without_rights(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for a user without rights; the tests may run as root, whom no mode stops.
    checkpoint, mkdir = make_checkpoint(), os.mkdir

    def refused(path: str, *arguments: Any, **options: Any) -> None:
        if Path(path).name.startswith("."):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", refused)
    with pytest.raises(WriteFailed, match=r"cannot be written .*Permission denied.* Check the path and its rights"):
        export(checkpoint, tmp_path / "bundle")
    assert names(tmp_path) == ["checkpoint"]


def test_dry_run_writes_nothing(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    plan_onnx(OnnxExport(str(make_checkpoint()), tmp_path / "new" / "bundle"))
    assert names(tmp_path) == ["checkpoint"]


# --- what killed exports leave


def leave(output: Path, *files: str) -> Path:
    """Leave what a killed export leaves: a hidden directory, of which nobody holds the lock."""
    hidden = output.with_name(f".{output.name}.writing-abc_1234")
    for file in ("lock", *files):
        (hidden / file).parent.mkdir(parents=True, exist_ok=True)
        (hidden / file).write_bytes(b"half")
    return hidden


@pytest.mark.parametrize("name", ["bundle", "a [b]*", "v1.0"])
def test_what_killed_exports_left_is_removed(make_checkpoint: MakeCheckpoint, tmp_path: Path, name: str) -> None:
    checkpoint = make_checkpoint()
    leave(tmp_path / name, "output/model.onnx.data", "twin/model.onnx")
    export(checkpoint, tmp_path / name)
    assert names(tmp_path) == sorted([name, "checkpoint"])


def test_failed_export_keeps_the_bundle_that_a_killed_one_moved_aside(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, output = make_checkpoint(), tmp_path / "bundle"
    hidden = leave(output, "replaced/rubricrm.json")
    with monkeypatch.context() as patched:
        patched.setattr(StreamedTensor, "tofile", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export(checkpoint, output)
    assert (hidden / "replaced" / "rubricrm.json").exists()
    export(checkpoint, output)
    assert names(tmp_path) == ["bundle", "checkpoint"]


KILLED = """
import signal, sys
from pathlib import Path
from rubricrm_export.onnx_bundle import bundle_files, export
from rubricrm.runtime import published_directory
from rubricrm_export.graph.streamed_tensor import StreamedTensor

def wait_in(owner, name, after):
    function = getattr(owner, name)
    def waiting(*arguments, **options):
        result = function(*arguments, **options) if after else None
        print("here", flush=True)
        signal.pause()
    setattr(owner, name, waiting)

checkpoint, target, step = sys.argv[1:]
if step == "weights":
    wait_in(StreamedTensor, "tofile", True)
elif step == "prefix":
    wait_in(bundle_files, "compute_prefix", True)
elif step == "before publishing":
    wait_in(published_directory, "_publish", False)
else:
    wait_in(published_directory, "_publish", True)
export.export_onnx(export.OnnxExport(checkpoint, Path(target), weights="fp16", force=True))
"""


@pytest.mark.parametrize(
    ("step", "old_stays"),
    [("weights", True), ("prefix", True), ("before publishing", True), ("after publishing", False)],
)
def test_killed_export_leaves_a_whole_bundle_and_one_sibling(
    make_checkpoint: MakeCheckpoint, bundle_copy: Path, step: str, old_stays: bool
) -> None:
    checkpoint, old = make_checkpoint(), contents(bundle_copy)
    command = [sys.executable, "-c", KILLED, str(checkpoint), str(bundle_copy), step]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    weights = Bundle.open(bundle_copy, verify=True).manifest.quantization.weights
    assert weights == ("bf16" if old_stays else "fp16")
    if old_stays:
        assert contents(bundle_copy) == old
    (hidden,) = [name for name in names(bundle_copy.parent) if name.startswith(".")]
    assert hidden.startswith(".bundle.writing-")
    export(checkpoint, bundle_copy, force=True)
    assert names(bundle_copy.parent) == ["bundle", "checkpoint"]


# --- what errors name


@pytest.mark.parametrize("kind", [WriteFailed, CheckpointUnsupported])
def test_errors_name_the_path_that_was_asked_for(tmp_path: Path, kind: type[RubricrmError]) -> None:
    """The directory under its hidden name is gone when the error is read."""
    with (
        pytest.raises(kind, match=f"running {tmp_path / 'bundle'}/model.onnx: no kernel") as caught,
        whole_directory(tmp_path / "bundle", force=False) as directory,
    ):
        raise kind(f"running {directory / 'model.onnx'}: no kernel")
    assert "writing" not in str(caught.value)
    assert names(tmp_path) == []


def test_errors_of_scratch_files_name_the_path_that_was_asked_for(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteFailed, match=f"^WRITE_FAILED: {tmp_path / 'bundle'}: bad$"),
        scratch_directory(tmp_path / "bundle", "copy") as directory,
    ):
        raise WriteFailed(f"{directory}: bad")


def test_errors_of_the_system_name_no_hidden_path(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteFailed, match=f"{tmp_path / 'bundle'}: cannot be written") as caught,
        whole_directory(tmp_path / "bundle", force=False) as directory,
    ):
        (directory / "missing" / "model.onnx").write_text("")
    assert ".writing" not in str(caught.value)
    assert "No such file or directory" in str(caught.value)
