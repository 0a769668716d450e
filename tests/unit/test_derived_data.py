"""Data in the other layout: derived once, kept for this user alone, and made again where something is wrong."""

import errno
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_kernels import needs_kernels
from rubricrm import RubricModel
from rubricrm.errors import BundleInvalid, RuntimeFailed
from rubricrm.runtime import derived_data as module
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.derived_data import data_directory
from rubricrm.runtime.manifest import GraphFacts

REQUEST = "Write a haiku."


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for the cache directory, which does not exist yet."""
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory for temporary files."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUBRICRM_KERNELS", "off")


def lacking(bundle: Bundle) -> GraphFacts:
    """The graph whose data the bundle does not hold."""
    (graph,) = (graph for graph in bundle.manifest.graphs if not bundle.manifest.has_data(graph))
    return graph


def derived(path: Path) -> bytes:
    """Derive what a bundle lacks, and read it."""
    bundle = Bundle.open(path)
    graph = lacking(bundle)
    with data_directory(bundle, graph) as directory:
        return (directory / str(graph.data_file)).read_bytes()


def kept(cache: Path) -> list[Path]:
    """What an opening left there, but for how long steps take and what a prefix is."""
    others = ("step_cost.", "prefix.")
    paths = (path for path in cache.rglob("*") if path.is_file() and not path.name.startswith(others))
    return sorted(paths, key=lambda path: path.name)


# ---- what is derived, and when ----


def test_it_is_what_the_other_bundle_holds(packed_bundle: Path, standard_bundle: Path, cache: Path) -> None:
    assert derived(packed_bundle) == (standard_bundle / "model.onnx.data").read_bytes()
    assert derived(standard_bundle) == (packed_bundle / "model.step.onnx.data").read_bytes()
    assert [path.name for path in kept(cache)] == ["model.onnx.data", "model.step.onnx.data"]
    assert [path.parent.name for path in kept(cache)] == ["data-standard", "data-packed"]


def test_it_is_derived_once(packed_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = derived(packed_bundle)
    monkeypatch.setattr(module, "derive_data", lambda *_: pytest.fail("derived again"))
    assert derived(packed_bundle) == expected
    assert len(kept(cache)) == 1


def test_data_that_are_there_are_not_derived(packed_bundle: Path, cache: Path) -> None:
    bundle = Bundle.open(packed_bundle)
    with data_directory(bundle, bundle.manifest.graph) as directory:
        assert directory == packed_bundle
    assert not cache.exists()


@pytest.mark.usefixtures("without_kernels")
def test_without_kernels_a_packed_bundle_runs(packed_bundle: Path, standard_bundle: Path, cache: Path) -> None:
    texts = []
    for path in (standard_bundle, packed_bundle, packed_bundle):
        with RubricModel.open(path, threads=1) as model:
            result = model.generate(REQUEST, max_new_tokens=20)
            texts.append(result.text)
            assert result.model["kernels"].startswith("onnxruntime (it needs version 1 of this project's kernels")
    assert len(set(texts)) == 1
    assert [path.name for path in kept(cache)] == ["model.onnx.data"]


@needs_kernels
def test_with_kernels_a_packed_bundle_needs_nothing_and_a_standard_one_is_packed(
    packed_bundle: Path, standard_bundle: Path, cache: Path
) -> None:
    texts = []
    for path, names in ((packed_bundle, []), (standard_bundle, ["model.step.onnx.data"])):
        with RubricModel.open(path, threads=1) as model:
            result = model.generate(REQUEST, max_new_tokens=20)
            texts.append(result.text)
            assert result.model["kernels"].startswith("rubricrm ")
        assert [path.name for path in kept(cache)] == names
    assert len(set(texts)) == 1


# ---- what lies in the cache ----


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda _: b""], ids=range(3))
def test_a_file_of_another_size_is_derived_again(
    packed_bundle: Path, cache: Path, change: Callable[[bytes], bytes]
) -> None:
    expected = derived(packed_bundle)
    (path,) = kept(cache)
    path.write_bytes(change(expected))
    assert derived(packed_bundle) == expected
    assert path.read_bytes() == expected


def test_what_a_killed_process_left_is_removed(packed_bundle: Path, cache: Path) -> None:
    expected = derived(packed_bundle)
    (path,) = kept(cache)
    path.unlink()
    left = path.with_name(f".{path.name}.writing-abcd1234")
    left.mkdir()
    (left / "lock").touch()
    (left / path.name).write_bytes(expected[:100])
    assert derived(packed_bundle) == expected
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


KILL = """
import os, signal, sys
from pathlib import Path
from rubricrm.runtime import data_layout
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.derived_data import data_directory
data_layout.rename_whole = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
bundle = Bundle.open(sys.argv[1])
with data_directory(bundle, bundle.manifest.graphs[1]):
    pass
"""


def test_a_kill_leaves_no_half_of_a_file(packed_bundle: Path, standard_bundle: Path, cache: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILL, str(packed_bundle)], check=False)
    assert done.returncode == -9
    assert not list(cache.rglob("model.onnx.data"))
    assert derived(packed_bundle) == (standard_bundle / "model.onnx.data").read_bytes()
    assert [path.name for path in kept(cache)] == ["model.onnx.data"]


GENERATE = """
import sys
from rubricrm import RubricModel
with RubricModel.open(sys.argv[1], threads=1) as model:
    print(model.generate("Write a haiku.", max_new_tokens=12).text.encode().hex())
"""


@pytest.mark.usefixtures("without_kernels")
def test_processes_that_open_at_once_all_succeed(packed_bundle: Path, cache: Path) -> None:
    command = [sys.executable, "-c", GENERATE, str(packed_bundle)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(4)
    ]
    outputs = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 4, outputs
    assert {error for _, error in outputs} == {""}
    assert len({text for text, _ in outputs}) == 1
    assert [path.name for path in kept(cache)] == ["model.onnx.data"]


# ---- without a cache ----


def fails_with(number: int) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.usefixtures("without_kernels")
def test_without_a_cache_a_model_opens_with_one_warning_and_leaves_nothing(
    packed_bundle: Path,
    standard_bundle: Path,
    cache: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RubricModel.open(standard_bundle, threads=1) as model:
        expected = model.generate(REQUEST, max_new_tokens=20).text
    cache.mkdir(exist_ok=True)
    cache.chmod(0o777)
    with caplog.at_level(logging.WARNING), RubricModel.open(packed_bundle, threads=1) as model:
        assert list(temporary.iterdir()) == []
        assert model.generate(REQUEST, max_new_tokens=20).text == expected
    (record,) = caplog.records
    assert "nothing is kept between runs" in record.getMessage()
    assert list(temporary.iterdir()) == []
    assert kept(cache) == []
    monkeypatch.setattr(module, "derive_data", fails_with(errno.ENOSPC))
    with pytest.raises(RuntimeFailed, match="cannot be arranged in the layout standard .*No space left.*convert"):
        RubricModel.open(packed_bundle, threads=1)
    assert list(temporary.iterdir()) == []


def test_a_cache_that_is_full_is_named_and_a_temporary_directory_is_used(
    packed_bundle: Path,
    standard_bundle: Path,
    cache: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "rename_whole", fails_with(errno.ENOSPC))
    with caplog.at_level(logging.WARNING):
        assert derived(packed_bundle) == (standard_bundle / "model.onnx.data").read_bytes()
    (record,) = caplog.records
    assert "data in the layout standard could not be kept (" in record.getMessage()
    assert "No space left" in record.getMessage()
    assert [*kept(cache), *temporary.iterdir()] == []


def test_without_any_place_to_write_the_error_is_typed(
    packed_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file")
    monkeypatch.setattr(tempfile, "tempdir", str(cache / "below"))
    with pytest.raises(RuntimeFailed, match="cannot be arranged in the layout standard"):
        derived(packed_bundle)


# ---- bundles that are not sound ----


@pytest.mark.usefixtures("cache")
def test_data_of_another_model_are_refused(packed_bundle: Path, narrow_bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(packed_bundle, tmp_path / "bundle"))
    bundle = Bundle.open(path)
    shutil.copyfile(narrow_bundle / "model.onnx", path / "model.onnx")
    graph = lacking(bundle)
    with pytest.raises(BundleInvalid, match="does not follow from its tensors"), data_directory(bundle, graph):
        pass


def test_damaged_data_are_an_error_and_leave_nothing(packed_bundle: Path, tmp_path: Path, cache: Path) -> None:
    path = Path(shutil.copytree(packed_bundle, tmp_path / "bundle"))
    bundle = Bundle.open(path)
    os.truncate(path / "model.step.onnx.data", 4096)
    with pytest.raises(BundleInvalid, match="truncated or replaced"), data_directory(bundle, lacking(bundle)):
        pass
    assert kept(cache) == []


@pytest.mark.parametrize("name", ["model.onnx", "model.step.onnx"])
def test_a_graph_that_is_none_is_refused(packed_bundle: Path, tmp_path: Path, cache: Path, name: str) -> None:
    path = Path(shutil.copytree(packed_bundle, tmp_path / "bundle"))
    bundle = Bundle.open(path)
    graph = path / name
    graph.write_bytes(b"\xff" * graph.stat().st_size)
    with pytest.raises(BundleInvalid, match=f"{name}: is not an ONNX graph"), data_directory(bundle, lacking(bundle)):
        pass
    assert kept(cache) == []
