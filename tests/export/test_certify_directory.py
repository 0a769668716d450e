"""`rubricrm certify DIRECTORY` with fake servers: programs of the readers' names that answer by a CPU bundle."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm_export.tensorrt.job import TensorRTExport
from rubricrm_export.tensorrt_build.export import export_tensorrt

DEMO = Path(__file__).parents[2] / "sdk" / "python" / "rubricrm" / "demo_bundle"
CHECKPOINT = Path(__file__).parents[2] / "models" / "demo" / "checkpoint"

FAKE_SERVER = f"""#!{sys.executable}
# A fake: no GPU, no TensorRT. It answers by the bundle of the tests.
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from rubricrm.model import RubricModel
Path(sys.argv[0]).with_suffix(".log").write_text(json.dumps(sys.argv[1:]))
if Path(sys.argv[0]).with_suffix(".fails").exists():
    sys.exit("no kernel for this GPU")
model = RubricModel.open({str(DEMO)!r}, threads=1)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        owner = {{"vllm": "vllm", "trtllm-serve": "tensorrt_llm"}}.get(Path(sys.argv[0]).name, "edge")
        self.reply(json.dumps({{"data": [{{"id": "fake", "owned_by": owner}}]}}).encode())
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_edge = "edgellm" in sys.argv[0]
        if self.path == "/v1/chat/completions" and is_edge:
            result = model.generate_text(body["messages"], max_new_tokens=body["max_tokens"])
            choice = {{"delta": {{"content": result.text}}}}
        elif self.path == "/v1/completions" and not is_edge:
            stream = model.stream_ids(body["prompt"], max_new_tokens=body["max_tokens"])
            stream.wait()
            result = stream.result()
            choice = {{"text": result.text}}
        else:
            self.send_error(404)
            return
        events = [{{"choices": [choice]}}, {{"choices": [{{"delta": {{}}, "finish_reason": result.finish_reason}}]}}]
        lines = [f"data: {{json.dumps(event)}}\\n\\n" for event in events]
        self.reply("".join([*lines, "data: [DONE]\\n\\n"]).encode())
    def reply(self, data):
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if data[:1] == b"{{" else "text/event-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
BUILDS = """#!/usr/bin/env bash
while [ "$1" != --output_dir ]; do shift; done
mkdir "$2" && echo engine > "$2/rank0.engine"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def install(programs: Path, name: str, text: str = FAKE_SERVER) -> Path:
    path = programs / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def directory_for(reader: str, tmp_path: Path) -> Path:
    weights = "fp16" if reader == "edge-llm" else "bf16"
    return export_tensorrt(TensorRTExport(str(CHECKPOINT), tmp_path / "exported", reader, weights)).path


def certify(directory: Path, *words: str) -> Result:
    options = ["--reference", str(DEMO), "--requests", "2", "--json"]
    return CliRunner().invoke(cli, ["certify", str(directory), *options, *words])


@pytest.mark.parametrize(
    ("reader", "program", "expected"),
    [
        ("tensorrt-llm", "trtllm-serve", ["{directory}", "--config", "{directory}/serve.yaml", "--host", "127.0.0.1"]),
        ("vllm", "vllm", ["serve", "{directory}", "--max-model-len"]),
        ("edge-llm", "tensorrt-edgellm-serve", ["{directory}", "--max-input-len"]),
    ],
)
def test_a_directory_is_served_and_compared(
    programs: Path, tmp_path: Path, reader: str, program: str, expected: list[str]
) -> None:
    path = install(programs, program)
    directory = directory_for(reader, tmp_path)
    result = certify(directory)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["certified"]
    assert report["identical"] >= 1  # sums in another order may turn a near tie of the other
    assert report["candidate"] == f"{reader} serving exported"
    words = json.loads(path.with_suffix(".log").read_text())
    assert words[: len(expected)] == [word.format(directory=directory) for word in expected]


def test_an_engine_is_built_first_and_removed(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(programs, "trtllm-build", BUILDS)
    install(programs, "nvidia-smi", '#!/usr/bin/env bash\necho "NVIDIA H100 80GB HBM3, 9.0, 81559"\n')
    monkeypatch.setattr("rubricrm_export.tensorrt_build.engine_build.version", lambda _: "1.2.1")
    path = install(programs, "trtllm-serve")
    directory = directory_for("tensorrt-llm-1.2", tmp_path)
    result = certify(directory)
    assert result.exit_code == 0, result.output
    engine, *words = json.loads(path.with_suffix(".log").read_text())
    assert words[:2] == ["--tokenizer", str(directory)]
    assert not Path(engine).exists()


def test_a_reader_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = directory_for("vllm", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = certify(directory)
    assert result.exit_code == 1
    assert "vllm is not on the path" in result.stderr
    assert "pip install 'vllm==" in result.stderr


def test_a_server_that_ends(programs: Path, tmp_path: Path) -> None:
    path = install(programs, "trtllm-serve")
    path.with_suffix(".fails").touch()
    result = certify(directory_for("tensorrt-llm", tmp_path))
    assert result.exit_code == 1
    assert "trtllm-serve ended with 1. It printed last:\n  no kernel for this GPU" in result.stderr


def test_a_directory_that_was_changed_is_not_served(programs: Path, tmp_path: Path) -> None:
    install(programs, "trtllm-serve")
    directory = directory_for("tensorrt-llm", tmp_path)
    (directory / "config.json").write_text("{}")
    result = certify(directory)
    assert result.exit_code == 2
    assert "BUNDLE_INVALID" in result.stderr


def test_a_directory_has_no_device(programs: Path, tmp_path: Path) -> None:
    install(programs, "trtllm-serve")
    result = certify(directory_for("tensorrt-llm", tmp_path), "--device", "cuda")
    assert result.exit_code == 2
    assert "--device has no effect on a directory" in result.stderr
