"""`rubricrm build edge-llm` with an exporter that is a script; the real one is among the referees."""

import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm_export.tensorrt.job import TensorRTExport
from rubricrm_export.tensorrt_build.export import export_tensorrt

MakeCheckpoint = Callable[..., Path]

WRITES = '#!/usr/bin/env bash\nmkdir -p "$2/llm" && touch "$2/llm/model.onnx" "$2/llm/tokenizer.json"\n'


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


@pytest.fixture
def directory(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> Path:
    job = TensorRTExport(str(make_checkpoint()), tmp_path / "directory", "edge-llm", "fp16", max_batch_size=1)
    return export_tensorrt(job).path


def build(directory: Path, target: Path, *options: object) -> Result:
    return CliRunner().invoke(cli, ["build", "edge-llm", str(directory), "-o", str(target), *map(str, options)])


def test_graph_is_written_and_the_next_step_named(directory: Path, tmp_path: Path) -> None:
    script(tmp_path / "env" / "bin" / "tensorrt-edgellm-export", WRITES)
    result = build(directory, tmp_path / "onnx", "--environment", tmp_path / "env", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "onnx": str(tmp_path / "onnx"),
        "next": f"llm_build --onnxDir {tmp_path / 'onnx' / 'llm'} --engineDir engine --maxBatchSize 1 "
        "--maxInputLen 1024 --maxKVCacheCapacity 2048",
    }
    assert (tmp_path / "onnx" / "llm" / "model.onnx").is_file()
    again = build(directory, tmp_path / "onnx", "--environment", tmp_path / "env")
    assert (again.exit_code, "OUTPUT_EXISTS" in again.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/usr/bin/env bash\necho bad tensor; exit 4\n", "failed with exit code 4. It ended with:\n  bad tensor"),
        ("#!/usr/bin/env bash\n", "wrote no llm/model.onnx and no llm/tokenizer.json"),
        ("#!/no/such/shell\n", "cannot be started"),
    ],
)
def test_exporter_that_fails_leaves_nothing(directory: Path, tmp_path: Path, text: str, message: str) -> None:
    script(tmp_path / "env" / "bin" / "tensorrt-edgellm-export", text)
    before = set(tmp_path.iterdir())
    result = build(directory, tmp_path / "onnx", "--environment", tmp_path / "env")
    assert (result.exit_code, message in result.stderr) == (1, True), result.stderr
    assert set(tmp_path.iterdir()) == before


def test_environment_without_the_exporter(directory: Path, tmp_path: Path) -> None:
    result = build(directory, tmp_path / "onnx", "--environment", tmp_path)
    assert result.exit_code == 2
    assert "Install it there: pip install 'tensorrt-edgellm[export]==0.11.0'" in result.stderr


def test_own_environment_is_made_once(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that makes an environment whose pip installs the script."""
    log = tmp_path / "log"
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "cache"))
    exporter = tmp_path / "exporter"
    script(exporter, WRITES)
    pip = f'#!/usr/bin/env bash\\necho "$@" >> {log}\\ncp {exporter} "$(dirname "$0")/tensorrt-edgellm-export"\\n'
    venv = f'#!/usr/bin/env bash\nmkdir -p "$3/bin" && printf \'{pip}\' > "$3/bin/python" && chmod +x "$3/bin/python"\n'
    script(tmp_path / "python", venv)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for name in ("first", "second"):
        result = build(directory, tmp_path / name)
        assert result.exit_code == 0, result.output
    assert log.read_text() == "-m pip install tensorrt-edgellm[export]==0.11.0\n"
    assert len(list((tmp_path / "cache" / "environments").glob("*/bin/tensorrt-edgellm-export"))) == 1
    assert (tmp_path / "second").is_dir()


def test_directory_of_another_reader(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    path = export_tensorrt(TensorRTExport(str(make_checkpoint()), tmp_path / "vllm", "vllm", "bf16")).path
    result = build(path, tmp_path / "onnx")
    assert (result.exit_code, "is for vllm, expected edge-llm" in result.stderr) == (2, True)
