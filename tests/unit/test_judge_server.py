"""A judge on a server: its prompt as ids, its sampling, and votes that a server's failure costs."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from judge_bundle import judge_bundle
from rubricrm import JudgeModel, Jury, Scored, Unscored
from rubricrm.cli import cli

CASE = ("Write a haiku.", "1. The response is a haiku. [Hard Rule]", "Rain falls.", "Drops.")


@dataclass
class Server:
    """A server of completions that ends each with one line, or refuses with a status."""

    answer: str = "--- Final Judgment ---\nWinner: Response A"
    status: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._send(
                200, "application/json", json.dumps({"object": "list", "data": [{"id": "judge", "object": "model"}]})
            )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.bodies.append(body)
            if state.status != 200:
                self._send(state.status, "application/json", json.dumps({"error": {"message": "no"}}))
                return
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 9, "total_tokens": 9}
            chunk = {"id": "1", "object": "text_completion", "created": 1, "model": "judge"}
            choice = {"index": 0, "text": state.answer, "finish_reason": "stop", "logprobs": None}
            events = [{**chunk, "choices": [choice]}, {**chunk, "choices": [], "usage": usage}]
            text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
            self._send(200, "text/event-stream", text)

        def _send(self, status: int, kind: str, text: str) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def judge(server: Server, tmp_path: Path) -> Iterator[JudgeModel]:
    bundle = judge_bundle(tmp_path / "bundle")
    with JudgeModel.connect(server.url, prompt=bundle, dialect="openai", max_retries=0) as model:
        yield model


def test_a_connected_judge_sends_the_ids_of_its_prompt(judge: JudgeModel, server: Server) -> None:
    result = judge.judge(*CASE, seed=3)
    assert result.judgment.winner == "A"
    sent = server.bodies[-1]
    fields = ("instruction", "rubric", "response_a", "response_b")
    assert sent["prompt"] == judge._prompt.encode(dict(zip(fields, CASE, strict=True)))
    assert (sent["temperature"], sent["seed"]) == (0.7, 3)
    assert result.model["manifest_sha256"] == judge.bundle.manifest_sha256


def test_the_command_asks_a_judge_on_a_server(server: Server, tmp_path: Path) -> None:
    bundle, rubric = judge_bundle(tmp_path / "bundle"), tmp_path / "rubric.txt"
    rubric.write_text(CASE[1])
    words = ["judge", CASE[0], "--a", CASE[2], "--b", CASE[3], "--rubric", rubric, "--json"]
    words += ["--server", server.url, "--dialect", "openai", "--prompt", bundle]
    found = CliRunner().invoke(cli, [str(word) for word in words])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["winner"] == "tie"  # it prefers what it sees first
    assert len(server.bodies) == 3  # one tries the server
    found = CliRunner().invoke(cli, [*map(str, words), "--threads", "2"])
    assert (found.exit_code, "--threads has no effect with --server and --rubric" in found.stderr) == (2, True)


def test_a_jury_of_a_connected_judge(judge: JudgeModel, server: Server) -> None:
    outcome = Jury(judge, votes=2).reward(CASE[0], CASE[2], CASE[3], rubric=CASE[1])
    assert isinstance(outcome, Scored)
    assert outcome.value == 0.5  # it prefers what it sees first
    assert sorted(body["seed"] for body in server.bodies[-4:]) == [0, 0, 1, 1]


@pytest.mark.parametrize(("status", "retryable"), [(503, True), (500, True), (400, False)])
def test_an_outage_is_never_a_score(judge: JudgeModel, server: Server, status: int, retryable: bool) -> None:
    server.status = status
    outcome = Jury(judge, votes=3).reward(CASE[0], CASE[2], CASE[3], rubric=CASE[1])
    assert isinstance(outcome, Unscored)
    assert (outcome.reason, outcome.retryable) == ("judge_failed", retryable)
    assert len(outcome.votes) == 6
