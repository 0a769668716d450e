"""The library of kernels: found, loaded, forced, switched off, and why it is not used."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from numpy._core import _multiarray_umath
from own_kernels import needs_kernels
from rubricrm import RubricModel
from rubricrm.errors import GraphUnusable, RuntimeFailed
from rubricrm.runtime import kernels as module
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.graph import open_graph
from rubricrm.runtime.graph_choice import choose_graph, running_kernels, unknown_words
from rubricrm.runtime.kernels import Kernels, find_kernels
from rubricrm.runtime.manifest import GraphFacts

FOREIGN_LIBRARY = _multiarray_umath.__file__
SETS = ("avx512amx", "avx512vnni", "avx2", "neon_i8mm", "neon_dotprod", "plain")
# Its first line says what runs, and with a bundle the second one what that wrote.
REPORT = """
import json, sys
from rubricrm import RubricModel
from rubricrm.runtime.kernels import find_kernels
found = find_kernels()
print(json.dumps([found.instruction_set, found.problem]))
if len(sys.argv) > 1:
    with RubricModel.open(sys.argv[1], threads=1) as model:
        result = model.generate("Write a haiku.", max_new_tokens=20, logprobs=3)
        print(json.dumps([result.text, [entry.logprob for entry in result.logprobs]]))
"""


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Let each test look again."""
    module._find.cache_clear()
    yield
    module._find.cache_clear()


@pytest.fixture
def any_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUBRICRM_KERNELS", raising=False)


def report(*arguments: object, **variables: str) -> tuple[list[list[object]], str]:
    """What a new process finds, and its warnings: the library reads its variable once in a process."""
    command = [sys.executable, "-c", REPORT, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


# ---- found ----


@needs_kernels
def test_the_library_is_beside_the_package_and_says_what_it_is() -> None:
    found = find_kernels()
    assert found.library is not None
    assert found.library.is_file()
    assert found.operators == "1"
    assert found.instruction_set in SETS
    assert found.problem is None


@needs_kernels
@pytest.mark.parametrize("instruction_set", ["plain", None])
def test_every_set_writes_the_same(packed_bundle: Path, instruction_set: str | None) -> None:
    """The one that is forced, and the processor's best."""
    variables = {} if instruction_set is None else {"RUBRICRM_KERNELS": instruction_set}
    (found, answer), warnings = report(packed_bundle, **variables)
    assert found == [instruction_set or find_kernels().instruction_set, None]
    assert warnings == ""
    with RubricModel.open(packed_bundle, threads=1) as model:
        result = model.generate("Write a haiku.", max_new_tokens=20, logprobs=3)
    assert result.model["kernels"] == f"rubricrm {find_kernels().instruction_set}"
    assert result.logprobs is not None
    assert answer == [result.text, [entry.logprob for entry in result.logprobs]]


def test_looking_for_it_loads_nothing_else() -> None:
    script = "import sys; from rubricrm.runtime.kernels import find_kernels; find_kernels(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"onnxruntime", "numpy", "tokenizers"} & set(done.stdout.split())


# ---- not used ----


def test_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("RUBRICRM_KERNELS", "off")
    assert find_kernels() == Kernels(problem="RUBRICRM_KERNELS is off")
    assert caplog.records == []


@needs_kernels
@pytest.mark.parametrize("wrong", ["avx1024", "PLAIN", "plain "])
def test_a_set_that_is_none_is_warned_of(packed_bundle: Path, wrong: str) -> None:
    (found, _), warnings = report(packed_bundle, RUBRICRM_KERNELS=wrong)
    assert found[0] is None
    assert str(found[1]).startswith(f"RUBRICRM_KERNELS is {wrong}: '{wrong}' is none of ")
    assert warnings == f"{found[1]}. ONNX Runtime's own kernels run\n"


@pytest.mark.usefixtures("any_set")
def test_a_machine_without_the_library_is_told_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_installed_library", lambda: None)
    found = find_kernels()
    assert found.library is None
    assert str(found.problem).startswith("it was not built, which takes a C++ compiler: install rubricrm again where ")
    assert "pip install" in str(found.problem)
    assert caplog.records == []  # the installation has said so


@pytest.mark.usefixtures("any_set")
@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (None, "where there is no file: name another, or none"),
        (b"", "cannot be loaded .*: build it again"),
        (b"this is no library", "cannot be loaded .*: build it again"),
    ],
    ids=["missing", "empty", "text"],
)
def test_a_library_that_was_named_and_cannot_be_used_is_warned_of_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    contents: bytes | None,
    reason: str,
) -> None:
    library = tmp_path / "library.so"
    if contents is not None:
        library.write_bytes(contents)
    monkeypatch.setenv("RUBRICRM_KERNELS_LIBRARY", str(library))
    with caplog.at_level(logging.WARNING):
        found = [find_kernels() for _ in range(3)]
    assert [kernels.library for kernels in found] == [None] * 3
    assert str(library) in str(found[0].problem)
    assert re.search(reason, str(found[0].problem))
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("any_set")
def test_a_library_of_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUBRICRM_KERNELS_LIBRARY", FOREIGN_LIBRARY)
    found = find_kernels()
    assert found.library is None
    assert "rubricrm_kernels_operators" in str(found.problem)


@needs_kernels
def test_a_library_may_lie_under_any_name_of_utf8(tmp_path: Path, packed_bundle: Path) -> None:
    library = find_kernels().library
    assert library is not None
    for name, works in (("größe \u4e2d.so", True), (os.fsdecode(b"bad\xff.so"), False)):
        copy = tmp_path / name
        shutil.copyfile(library, copy)
        (found, _), warnings = report(packed_bundle, RUBRICRM_KERNELS_LIBRARY=str(copy))
        assert (found[1] is None) is works
        assert ("is no UTF-8" in warnings) is not works


# ---- which graph runs ----


@pytest.fixture(scope="module")
def graphs(packed_bundle: Path) -> tuple[GraphFacts, ...]:
    return Bundle.open(packed_bundle).manifest.graphs


NEEDS = "it needs version 1 of this project's kernels, and the library is"


@pytest.mark.parametrize(
    ("kernels", "file", "running"),
    [
        (Kernels(Path("library.so"), "1", "avx2"), "model.step.onnx", "rubricrm avx2"),
        (Kernels(Path("library.so"), "2", "avx2"), "model.onnx", f"onnxruntime ({NEEDS} of version 2)"),
        (Kernels(problem="it is off"), "model.onnx", f"onnxruntime ({NEEDS} not used: it is off)"),
    ],
    ids=["there", "newer", "off"],
)
def test_the_graph_and_the_reason(graphs: tuple[GraphFacts, ...], kernels: Kernels, file: str, running: str) -> None:
    chosen = choose_graph(graphs, None, lambda _: None, "bundle", kernels).graph
    assert (chosen.file, running_kernels(chosen, graphs, kernels)) == (file, running)


def test_a_bundle_without_such_a_graph_says_that(graphs: tuple[GraphFacts, ...]) -> None:
    others = graphs[1:]
    expected = "onnxruntime (the graph has no operators of rubricrm)"
    assert running_kernels(others[0], others, Kernels(problem="it is not here")) == expected


def test_a_graph_of_steps_alone_needs_the_library(graphs: tuple[GraphFacts, ...]) -> None:
    kernels = Kernels(problem="it is not here")
    with pytest.raises(GraphUnusable, match=r"model.step.onnx: it needs version 1 .* not used: it is not here"):
        choose_graph(graphs[:1], None, lambda _: None, "bundle", kernels)
    assert unknown_words(graphs[1], kernels) is None


@needs_kernels
def test_a_library_that_the_runtime_refuses_is_a_typed_error(packed_bundle: Path) -> None:
    with pytest.raises(RuntimeFailed, match=r"its operators cannot be registered \(.*RegisterCustomOps"):
        open_graph(packed_bundle / "model.step.onnx", threads=1, library=Path(FOREIGN_LIBRARY))


def test_a_graph_of_steps_without_its_library_is_a_typed_error(packed_bundle: Path) -> None:
    with pytest.raises(RuntimeFailed, match="opening .*model.step.onnx with onnxruntime"):
        open_graph(packed_bundle / "model.step.onnx", threads=1)
