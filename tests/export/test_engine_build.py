"""`rubricrm build tensorrt-llm` with a driver and a builder that are scripts: what is checked, and what is left."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm_export.tensorrt.job import TensorRTExport
from rubricrm_export.tensorrt_build.export import export_tensorrt

MakeCheckpoint = Callable[..., Path]

BUILDS = """#!/usr/bin/env bash
echo "$@" > "{log}"
while [ "$1" != --output_dir ]; do shift; done
mkdir "$2" && echo engine > "$2/rank0.engine"
"""
FAILS = "#!/usr/bin/env bash\nfor n in $(seq 30); do echo line $n; done\necho no kernel >&2\nexit 3\n"
NOTHING = "#!/usr/bin/env bash\n"


class Machine:
    """A GPU machine in a directory."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.log = path / "log"
        (path / "bin").mkdir()
        monkeypatch.setenv("PATH", f"{path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr("rubricrm_export.tensorrt_build.engine_build.version", self.version)
        self.installed = "1.2.1"
        self.gpu("NVIDIA H100 80GB HBM3, 9.0, 81559")
        self.builder(BUILDS.format(log=self.log))

    def version(self, name: str) -> str:
        assert name == "tensorrt-llm"
        return self.installed

    def gpu(self, line: str) -> None:
        self.script("nvidia-smi", f'#!/usr/bin/env bash\n[ -n "{line}" ] && echo "{line}"\n')

    def builder(self, script: str) -> None:
        self.script("trtllm-build", script)

    def script(self, name: str, text: str) -> None:
        file = self.path / "bin" / name
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IEXEC)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def directory(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> Path:
    job = TensorRTExport(str(make_checkpoint()), tmp_path / "directory", "tensorrt-llm-1.2", "int8", max_batch_size=2)
    return export_tensorrt(job).path


def build(directory: Path, target: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["build", "tensorrt-llm", str(directory), "-o", str(target), *options])


def assert_refused(result: Result, code: str, *words: str) -> None:
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    for word in (f"Error: {code}", *words):
        assert word in result.stderr


def test_engine_is_built_with_the_directorys_limits(machine: Machine, directory: Path, tmp_path: Path) -> None:
    result = build(directory, tmp_path / "engine", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "engine": str(tmp_path / "engine"),
        "gpu": "NVIDIA H100 80GB HBM3",
        "compute_capability": 9.0,
    }
    words = machine.log.read_text()
    assert f"--checkpoint_dir {directory} " in words
    assert "--max_batch_size 2 --max_input_len 1024 --max_seq_len 2048" in words
    assert (tmp_path / "engine" / "rank0.engine").read_text() == "engine\n"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".engine")]


def test_engine_is_replaced_on_request_alone(machine: Machine, directory: Path, tmp_path: Path) -> None:
    assert machine.installed == "1.2.1"
    assert build(directory, tmp_path / "engine").exit_code == 0
    assert_refused(build(directory, tmp_path / "engine"), "OUTPUT_EXISTS", "Pass --force")
    assert build(directory, tmp_path / "engine", "--force").exit_code == 0
    (tmp_path / "mine").mkdir()
    assert_refused(build(directory, tmp_path / "mine", "--force"), "OUTPUT_EXISTS", "is no engine")


def test_failed_build_leaves_the_old_engine(machine: Machine, directory: Path, tmp_path: Path) -> None:
    build(directory, tmp_path / "engine")
    machine.builder(FAILS)
    result = build(directory, tmp_path / "engine", "--force")
    assert_refused(result, "EXPORT_FAILED", "exit code 3", "line 30", "no kernel")
    assert "  line 5\n" not in result.stderr.split("EXPORT_FAILED")[1]
    assert (tmp_path / "engine" / "rank0.engine").is_file()
    machine.builder(NOTHING)
    assert_refused(build(directory, tmp_path / "other"), "EXPORT_FAILED", "wrote no rank0.engine")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ("no GPU was found", "nvidia-smi failed")),
        ("No devices were found", ("no GPU was found",)),
    ],
)
def test_machine_without_a_gpu(
    machine: Machine, directory: Path, tmp_path: Path, line: str, words: tuple[str, ...]
) -> None:
    machine.gpu(line)
    assert_refused(build(directory, tmp_path / "engine"), "DEPENDENCY_MISSING", *words)


def test_gpu_without_fp8(machine: Machine, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The response is short. " * 40)
    job = TensorRTExport(
        str(make_checkpoint()),
        tmp_path / "fp8",
        "tensorrt-llm-1.2",
        "fp16",
        kv="fp8",
        calibration=str(tmp_path / "text.txt"),
    )
    directory = export_tensorrt(job).path
    machine.gpu("NVIDIA A100-SXM4-80GB, 8.0, 81920")
    assert_refused(build(directory, tmp_path / "engine"), "OPTION_INVALID", "A100-SXM4-80GB has none", "8.9")


def test_gpu_that_is_too_small(machine: Machine, directory: Path, tmp_path: Path) -> None:
    machine.gpu("Tiny, 9.0, 0")
    assert_refused(build(directory, tmp_path / "engine"), "OPTION_INVALID", "Tiny has 0 B")


@pytest.mark.parametrize("installed", ["1.3.0rc27", "1.1.0"])
def test_another_version(machine: Machine, directory: Path, tmp_path: Path, installed: str) -> None:
    machine.installed = installed
    result = build(directory, tmp_path / "engine")
    assert_refused(
        result, "DEPENDENCY_MISSING", f"tensorrt-llm {installed} is installed, expected 1.2.1", "--extra-index-url"
    )


def test_nothing_installed(directory: Path, tmp_path: Path) -> None:
    result = build(directory, tmp_path / "engine")
    assert_refused(
        result,
        "DEPENDENCY_MISSING",
        "tensorrt-llm is not installed",
        "NVIDIA's package index: pip install --extra-index-url",
        "'tensorrt-llm==1.2.1'",
    )


def test_directories_of_other_readers(machine: Machine, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    assert machine.installed
    path = export_tensorrt(TensorRTExport(str(make_checkpoint()), tmp_path / "vllm", "vllm", "bf16")).path
    assert_refused(build(path, tmp_path / "engine"), "OPTION_INVALID", "is for vllm", "run its build.sh")
    assert_refused(build(tmp_path / "nothing", tmp_path / "engine"), "BUNDLE_INVALID", "rubricrm-tensorrt.json")
