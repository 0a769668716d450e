"""The load tools that people measure servers with, against ours: `vllm bench serve` and locust."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rubricrm import RubricModel
from served import Served, serving

PYTHON = os.environ.get("RUBRICRM_PEERS", "")
HERE = Path(__file__).parent
CHECKPOINT = HERE.parents[1] / "models" / "demo" / "checkpoint"
REQUESTS = 40

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not PYTHON, reason="RUBRICRM_PEERS is not set: run `make test-peers`"),
]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with RubricModel.demo(max_concurrency=8) as model, serving(model, max_concurrency=8) as running:
        yield running


def run(program: str, *words: object) -> str:
    """Run a program of the peers' environment; return what it prints."""
    command = [str(Path(PYTHON).with_name(program)), *map(str, words)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    ("backend", "path", "name"),
    [
        ("openai", "/v1/completions", "rubricrm-demo"),
        ("openai", "/v1/completions", "rubricrm-demo-rubric"),
        ("openai-chat", "/v1/chat/completions", "rubricrm-demo"),
        ("openai-chat", "/v1/chat/completions", "rubricrm-demo-rubric"),
    ],
)
def test_vllm_bench_serve(served: Served, tmp_path: Path, backend: str, path: str, name: str) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text("".join(json.dumps({"prompt": f"Write text {n} about rain."}) + "\n" for n in range(REQUESTS)))
    options = {
        "backend": backend,
        "base-url": served.url,
        "endpoint": path,
        "model": name,
        "tokenizer": CHECKPOINT,
        "dataset-name": "custom",  # the random one asks to go on after the end of a text, which no rubric can
        "dataset-path": requests,
        "custom-output-len": 32,
        "num-prompts": REQUESTS,
        "max-concurrency": 16,
        "result-dir": tmp_path,
        "result-filename": "result.json",
    }
    run(
        "vllm",
        "bench",
        "serve",
        "--save-result",
        "--skip-chat-template",
        *(f"--{key}={value}" for key, value in options.items()),
    )
    found = json.loads((tmp_path / "result.json").read_text())
    assert (found["completed"], found["failed"]) == (REQUESTS, 0)
    assert found["total_output_tokens"] > 0
    assert found["median_ttft_ms"] > 0


def test_locust(served: Served) -> None:
    options = ("--headless", "--only-summary", "--users", 60, "--spawn-rate", 30, "--run-time", "20s")
    printed = run("locust", "-f", HERE / "locustfile.py", "--host", served.url, *options)
    found = next(json.loads(line) for line in printed.splitlines() if line.startswith('{"requests"'))
    assert found["requests"] > 100
    assert found["failures"] == 0
