"""What an interrupted export keeps: files that come back as they were, and an error for what does not fit."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rubricrm.errors import OptionInvalid, OutputExists
from rubricrm_export.calibrate import resume as resume_module
from rubricrm_export.calibrate.layer_result import LayerResult
from rubricrm_export.calibrate.resume import ResumeDirectory
from rubricrm_export.calibrate.token_text import TokenText
from rubricrm_export.errors import ExportFailed
from rubricrm_export.quantize.matrix import QuantizedMatrix
from safetensors.numpy import save_file

FACTS: dict[str, Any] = {
    "command": "export a",
    "file": {"a.safetensors": [1, 2], "b.json": [3, 4]},
    "prompt": {"x": None},
}
TEXT = TokenText("Größe.txt", (1, 2), ((3, 4, 5), (6,)))


def begin(target: Path, *, resume: bool = False, force: bool = False, **changed: Any) -> ResumeDirectory:
    return ResumeDirectory(target, FACTS | changed, resume=resume, force=force)


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def streams(rows: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((rows, 8), np.float32)
    return exact, exact + np.float32(1e-3)


def layer_result(bits: int = 4, zero_points: bool = True) -> LayerResult:
    rng = np.random.default_rng(bits)
    # 13 inputs in blocks of 8: the last block and the last byte are half empty.
    codes = rng.integers(0, 2**bits, (5, 13)).astype(np.uint8)
    scales = rng.random((5, 2), np.float32)
    points = rng.integers(0, 2**bits, (5, 2)).astype(np.uint8) if zero_points else None
    matrix = QuantizedMatrix(codes, scales, points, bits, 8)
    norms = {"input_layernorm.weight": rng.random(13, np.float32)}
    keys, values = rng.random((2, 4), np.float32), rng.random((2, 4), np.float32)
    return LayerResult({"mlp.up_proj.weight": matrix}, norms, {"mlp.up_proj.weight": 1.5}, keys, values)


# --- what is kept


def test_new_directory_is_empty(tmp_path: Path) -> None:
    directory = begin(tmp_path / "new" / "bundle")
    assert directory.path == tmp_path / "new" / "bundle.resume"
    assert (directory.load_text(), directory.load_stream()) == (None, None)


def test_resume_begins_where_nothing_is(tmp_path: Path) -> None:
    begin(tmp_path / "bundle", resume=True).save_text(TEXT)
    assert begin(tmp_path / "bundle", resume=True).load_text() == TEXT


def test_text_comes_back(tmp_path: Path) -> None:
    begin(tmp_path / "bundle").save_text(TEXT)
    assert begin(tmp_path / "bundle", resume=True).load_text() == TEXT


def test_stream_comes_back_bit_by_bit(tmp_path: Path) -> None:
    exact, quantized = streams()
    exact[0, :4] = -0.0, 1e-45, np.finfo(np.float32).max, np.float32(1) / 3
    begin(tmp_path / "bundle").save_stream(3, exact, quantized)
    loaded = begin(tmp_path / "bundle", resume=True).load_stream()
    assert loaded is not None
    assert loaded[0] == 3
    assert [loaded[1].tobytes(), loaded[2].tobytes()] == [exact.tobytes(), quantized.tobytes()]


@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_layer_comes_back(tmp_path: Path, bits: int, zero_points: bool) -> None:
    saved = layer_result(bits, zero_points)
    begin(tmp_path / "bundle").save_layer(7, saved)
    loaded = begin(tmp_path / "bundle", resume=True).load_layer(7)
    (name,) = saved.matrices
    before, after = saved.matrices[name], loaded.matrices[name]
    assert (after.bits, after.block_size, after.shape) == (before.bits, before.block_size, before.shape)
    assert np.array_equal(after.codes, before.codes)
    assert np.array_equal(after.scales, before.scales)
    assert (after.zero_points is None) == (before.zero_points is None)
    assert before.zero_points is None or np.array_equal(after.zero_points, before.zero_points)
    assert loaded.largest_inputs == saved.largest_inputs
    assert np.array_equal(loaded.norms["input_layernorm.weight"], saved.norms["input_layernorm.weight"])
    assert np.array_equal(loaded.largest_keys, saved.largest_keys)
    assert np.array_equal(loaded.largest_values, saved.largest_values)


def test_layer_without_matrices_comes_back(tmp_path: Path) -> None:
    directory, zeros = begin(tmp_path / "bundle"), np.zeros((1, 2), np.float32)
    directory.save_layer(0, LayerResult({}, {}, {"a": 2.0}, zeros, zeros))
    loaded = directory.load_layer(0)
    assert (loaded.matrices, loaded.norms, loaded.largest_inputs) == ({}, {}, {"a": 2.0})


def test_later_state_replaces_the_earlier_and_nothing_else_is_left(tmp_path: Path) -> None:
    directory = begin(tmp_path / "bundle")
    for layer in range(2):
        directory.save_layer(layer, layer_result())
        directory.save_stream(layer + 1, *streams())
    directory.save_text(TEXT)
    assert names(directory.path) == [
        *("job.json", "layer-00000.safetensors", "layer-00001.safetensors", "stream.safetensors", "text.json")
    ]
    loaded = directory.load_stream()
    assert loaded is not None
    assert loaded[0] == 2
    directory.remove()
    directory.remove()
    assert names(tmp_path) == []


# --- what a kill leaves


@pytest.mark.parametrize("resume", [False, True])
def test_half_written_files_count_as_absent(tmp_path: Path, resume: bool) -> None:
    path = begin(tmp_path / "bundle").path
    for name in (".text.json.writing", ".stream.safetensors.writing", ".layer-00000.safetensors.writing"):
        (path / name).write_bytes(b"half")
    directory = begin(tmp_path / "bundle", resume=resume, force=not resume)
    assert (directory.load_text(), directory.load_stream()) == (None, None)
    directory.save_text(TEXT)
    directory.save_stream(1, *streams())
    assert directory.load_text() == TEXT


def test_directory_without_a_job_counts_as_empty(tmp_path: Path) -> None:
    # A kill while the directory was being removed: what is left may be of any job.
    directory = begin(tmp_path / "bundle")
    directory.save_text(TEXT)
    directory.save_stream(2, *streams())
    (directory.path / "job.json").rename(directory.path / ".job.json.writing")
    directory = begin(tmp_path / "bundle", resume=True, command="export b")
    assert (directory.load_text(), directory.load_stream()) == (None, None)
    assert names(directory.path) == ["job.json"]


def test_removal_begins_with_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = begin(tmp_path / "bundle")
    directory.save_text(TEXT)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(resume_module.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        directory.remove()
    assert names(directory.path) == ["text.json"]


# --- what does not fit


def test_interrupted_export_is_kept_without_resume_and_force(tmp_path: Path) -> None:
    begin(tmp_path / "bundle").save_text(TEXT)
    with pytest.raises(OutputExists, match=r"bundle\.resume: .*interrupted.* --resume .*--force"):
        begin(tmp_path / "bundle")
    assert begin(tmp_path / "bundle", resume=True).load_text() == TEXT


def test_force_starts_anew(tmp_path: Path) -> None:
    begin(tmp_path / "bundle").save_text(TEXT)
    assert begin(tmp_path / "bundle", force=True, command="export b").load_text() is None


def test_resume_wins_over_force(tmp_path: Path) -> None:
    begin(tmp_path / "bundle").save_text(TEXT)
    assert begin(tmp_path / "bundle", resume=True, force=True).load_text() == TEXT


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"command": "export b"}, r"command differs \('export a' then, 'export b' now\)\."),
        ({"file": {"a.safetensors": [1, 9], "b.json": [3, 4]}}, r": file a\.safetensors differs\."),
        ({"file": {"a.safetensors": [1, 2]}}, r": file b\.json differs\."),
        ({"prompt": {"x": 1}, "more": 1}, r": more differs, prompt x differs\."),
    ],
)
def test_other_facts_are_named(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    begin(tmp_path / "bundle").save_text(TEXT)
    with pytest.raises(OptionInvalid, match=rf"bundle\.resume: .*{words} Pass the same options, or --force without"):
        begin(tmp_path / "bundle", resume=True, **changed)
    assert begin(tmp_path / "bundle", resume=True).load_text() == TEXT


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_interrupted_export_is_never_removed(tmp_path: Path, kind: str, resume: bool, force: bool) -> None:
    path = tmp_path / "bundle.resume"
    mine = path if kind == "file" else path / "mine.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(OutputExists, match=r"is no interrupted export, and is never removed\. Move it away"):
        begin(tmp_path / "bundle", resume=resume, force=force)
    assert mine.read_text() == "mine"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def write(contents: str | bytes) -> Callable[[Path], None]:
    data = contents.encode() if isinstance(contents, str) else contents
    return lambda path: (path.write_bytes(data), None)[1]


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def tensors(arrays: dict[str, Any], metadata: dict[str, str] | None = None) -> Callable[[Path], None]:
    return lambda path: save_file({key: np.array(a, np.float32) for key, a in arrays.items()}, path, metadata)


DAMAGE: list[tuple[str, str, Callable[[Path], None]]] = [
    ("job.json", "cut off", cut),
    ("job.json", "empty", write("")),
    ("job.json", "no object", write("[1]")),
    ("job.json", "no UTF-8", write(b"\xff")),
    ("job.json", "a directory", as_directory),
    ("text.json", "cut off", cut),
    ("text.json", "zeros", write(bytes(20))),
    ("text.json", "no UTF-8", write(b"\xff")),
    ("text.json", "no object", write("3")),
    ("text.json", "no prefix", write(json.dumps({"name": "x", "sequences": []}))),
    ("text.json", "words", write(json.dumps({"name": "x", "prefix": "abc", "sequences": ["de"]}))),
    ("text.json", "fractions", write(json.dumps({"name": "x", "prefix": [], "sequences": [[0.5]]}))),
    ("text.json", "a directory", as_directory),
    ("stream.safetensors", "cut off", cut),
    ("stream.safetensors", "empty", write("")),
    ("stream.safetensors", "no metadata", tensors({"float": [[1]], "quantized": [[1]]})),
    ("stream.safetensors", "no number", tensors({"float": [[1]], "quantized": [[1]]}, {"layers": "x"})),
    ("stream.safetensors", "negative", tensors({"float": [[1]], "quantized": [[1]]}, {"layers": "-1"})),
    ("stream.safetensors", "one tensor", tensors({"float": [[1]]}, {"layers": "1"})),
    ("stream.safetensors", "unequal", tensors({"float": [[1]], "quantized": [[1, 2]]}, {"layers": "1"})),
    ("layer-00000.safetensors", "cut off", cut),
    ("layer-00000.safetensors", "missing", Path.unlink),
    ("layer-00000.safetensors", "other tensors", tensors({"float": [[1]]})),
    ("layer-00000.safetensors", "no codes", tensors({"scales/a": [[1]]}, {"a": "4 32 32"})),
    ("layer-00000.safetensors", "bad facts", tensors({"codes/a": [[1]]}, {"a": "4 32"})),
]


@pytest.mark.parametrize(
    ("name", "damage"), [pytest.param(name, damage, id=f"{name} {kind}") for name, kind, damage in DAMAGE]
)
def test_damaged_file(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    directory = begin(tmp_path / "bundle")
    directory.save_text(TEXT)
    directory.save_layer(0, layer_result())
    directory.save_stream(1, *streams())
    damage(directory.path / name)

    def load_all() -> None:
        resumed = begin(tmp_path / "bundle", resume=True)
        resumed.load_text()
        resumed.load_stream()
        resumed.load_layer(0)

    with pytest.raises(ExportFailed, match=rf"{name}: .*Start again: (pass )?--force without --resume\."):
        load_all()
    # The remedy works.
    assert begin(tmp_path / "bundle", force=True).load_text() is None


@pytest.mark.parametrize("save", ["job", "text", "stream", "layer"])
def test_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: str) -> None:
    directory = begin(tmp_path / "bundle")

    def refused(path: Path, _: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "replace", refused)
    saves: dict[str, Callable[[], object]] = {
        "job": lambda: begin(tmp_path / "bundle", force=True),
        "text": lambda: directory.save_text(TEXT),
        "stream": lambda: directory.save_stream(1, *streams()),
        "layer": lambda: directory.save_layer(0, layer_result()),
    }
    with pytest.raises(ExportFailed, match=r"bundle\.resume: cannot be written .*No space left.* Check the path"):
        saves[save]()


@pytest.mark.parametrize("save", ["stream", "layer"])
def test_directory_that_vanished(tmp_path: Path, save: str) -> None:
    directory = begin(tmp_path / "bundle")
    directory.remove()
    with pytest.raises(ExportFailed, match=r"bundle\.resume: cannot be written"):
        directory.save_stream(1, *streams()) if save == "stream" else directory.save_layer(0, layer_result())


def test_target_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportFailed, match=r"bundle\.resume: cannot be written"):
        begin(tmp_path / "file" / "bundle")
