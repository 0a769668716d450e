"""What importing the package costs, and who may import what: the architecture, kept by a machine."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SDK = Path(__file__).resolve().parents[1] / "sdk" / "python" / "rubricrm"

HEAVY = {"numpy", "tokenizers", "onnxruntime", "torch", "transformers", "onnx", "onnx_ir", "safetensors", "jinja2"}
FOREIGN = {"torch", "onnx", "onnx_ir", "transformers", "rubricrm_export"}


def in_new_process(script: str) -> object:
    """Run a script that prints JSON on its last line."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def loaded_by(script: str) -> set[str]:
    """The top-level modules that a script loads."""
    modules = in_new_process(f"{script}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))")
    assert isinstance(modules, list)
    return {name.partition(".")[0] for name in modules}


def command_line(*arguments: str) -> str:
    return f"""
import io, sys
from rubricrm.cli import main
sys.argv = ["rubricrm", *{arguments!r}]
sys.stdin = io.TextIOWrapper(io.BytesIO(b"1. The response is short. [Hard Rule]"))
try:
    main()
except SystemExit as exit:
    assert not exit.code, exit.code
"""


def test_importing_the_package_takes_less_than_100_ms() -> None:
    # On an idle machine it takes a few; on a busy one, the fastest of several tries counts.
    script = "import time; start = time.perf_counter(); import rubricrm; print(time.perf_counter() - start)"
    assert any(float(str(in_new_process(script))) < 0.1 for _ in range(10))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import rubricrm; dir(rubricrm); rubricrm.__version__") & {*HEAVY, "click"}


def test_parsing_loads_nothing_heavy() -> None:
    assert not loaded_by("from rubricrm import parse; parse('1. x [Hard Rule]')") & {*HEAVY, "click"}


def test_the_names_of_the_package_load_nothing_heavy() -> None:
    # They are needed to write types and to catch errors, before any model is open.
    names = "from rubricrm import Bundle, GenerationOptions, Rubric, RubricrmError, RubricModel, TextStream"
    assert not loaded_by(names) & {*HEAVY, "click"}


@pytest.mark.parametrize("arguments", [("--help",), ("parse", "-"), ("parse", "--json")], ids=" ".join)
def test_commands_without_a_model_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(command_line(*arguments))
    assert "click" in loaded
    assert not loaded & HEAVY


def sources() -> list[Path]:
    files = sorted(SDK.rglob("*.py"))
    assert len(files) > 20
    return files


def imported_by(path: Path) -> Iterator[str]:
    """The top-level modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield str(node.module).partition(".")[0]


def test_the_runtime_imports_neither_the_exporter_nor_what_it_needs() -> None:
    assert {path.name: found for path in sources() if (found := FOREIGN & {*imported_by(path)})} == {}


def test_one_file_imports_onnx_runtime() -> None:
    assert [path.name for path in sources() if "onnxruntime" in imported_by(path)] == ["graph.py"]


PURE = [
    "errors",
    "generation/options",
    "generation/stop_strings",
    "rubric/parser",
    "rubric/rubric",
    "runtime/bundle",
    "runtime/cache_directory",
    "runtime/control_group",
    "runtime/installation",
    "runtime/manifest",
]


@pytest.mark.parametrize("stem", PURE)
def test_pure_modules_import_the_standard_library_only(stem: str) -> None:
    others = {*imported_by(SDK / f"{stem}.py")} - {*sys.stdlib_module_names, "rubricrm"}
    assert others == set()
