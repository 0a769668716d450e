"""`rubricrm certify`: bundles beside bundles, and a stand-in for a GPU's server that is told what to answer."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import REQUEST_FIELD
from rubricrm_export.certify.answers import WrittenAnswer
from rubricrm_export.certify.certification import Thresholds, certify
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

DEMO = Path(__file__).parents[2] / "sdk" / "python" / "rubricrm" / "demo_bundle"
CHECKPOINT = Path(__file__).parents[2] / "models" / "demo" / "checkpoint"


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["certify", *map(str, words)])


class StandIn:
    """An OpenAI API on this machine that answers as it is told: no GPU, no model of its own.

    Attributes:
        url: Its address.
        requests: The bodies that it got.
        answer: From a prompt to a text.
        status: What it answers with.
        reason: Why its texts end.
        end: What follows the last event.
        models: The body of /v1/models.
        cut: How many bytes of a stream, or of what is no list of models, are promised and not sent.
    """

    def __init__(self) -> None:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(stand_in.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stand_in.requests.append(body)
                text = stand_in.answer(body["messages"][0]["content"])
                events = [{"choices": [{"delta": {"content": piece}}]} for piece in (text[:9], text[9:])]
                events.append({"choices": [{"delta": {}, "finish_reason": stand_in.reason}]})
                lines = [f"data: {json.dumps(event)}\n\n" for event in events]
                self.reply("".join([*lines, stand_in.end]).encode())

            def reply(self, data: bytes) -> None:
                self.send_response(stand_in.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                cut = stand_in.cut if data.startswith(b"data:") or not data.endswith(b"]}") else 0
                self.wfile.write(data[: len(data) - cut])
                if cut:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.requests: list[dict[str, Any]] = []
        self.answer: Callable[[str], str] = lambda _: "1. The response rhymes. [Hard Rule]"
        self.status = 200
        self.cut = 0
        self.models = json.dumps({"data": [{"id": "stand-in"}]}).encode()
        self.reason: str | None = "stop"
        self.end = "data: [DONE]\n\n"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.close()


def test_bundle_is_certified_by_itself(tmp_path: Path) -> None:
    result = run(DEMO, "--reference", DEMO, "--requests", 3, "-o", tmp_path / "report", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert (report["certified"], report["reasons"]) == (True, [])
    assert (report["shared_tokens"], report["identical"], report["rubric_agreement"]) == (1, 1, 1)
    assert len(report["requests"]) == 3
    for side in ("candidate_ms", "reference_ms"):
        assert 0 < report[side]["first_text"] < report[side]["total"]
    page = (tmp_path / "report.md").read_text()
    assert page.startswith("# Certified\n")
    assert "| identical texts | 100.0% |" in page


def test_quantized_bundle_beside_its_float_one(tmp_path: Path) -> None:
    job = OnnxExport(str(CHECKPOINT), tmp_path / "int8", weights="int8", rubrics=False)
    result = run(export_onnx(job).path, "--reference", DEMO, "--requests", 4, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == (0 if report["certified"] else 1)
    assert report["shared_tokens"] > 0.3


def test_server_with_the_references_answers_is_certified(stand_in: StandIn) -> None:
    template = Bundle.open(DEMO).manifest.prompt.template
    head, tail = template.split(REQUEST_FIELD)
    with RubricModel.open(DEMO) as model:
        stand_in.answer = lambda prompt: (
            model.generate(prompt.removeprefix(head).removesuffix(tail), max_new_tokens=320).text
        )
        result = run(stand_in.url, "--reference", DEMO, "--requests", 3, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["candidate"], report["identical"]) == (f"server {stand_in.url}", 1)
    body = stand_in.requests[0]
    assert (body["model"], body["temperature"], body["stream"]) == ("stand-in", 0, True)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_server_with_a_broken_model_is_not(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.answer = lambda _: "strips strips strips"
    result = run(f"{stand_in.url}/v1", "--reference", DEMO, "--requests", 2, "-o", tmp_path / "report")
    assert result.exit_code == 1
    assert "Error: QUALITY_TOO_LOW" in result.stderr
    assert "of the tokens stand before the first difference, expected at least 50%" in result.stderr
    assert "of the criteria agree, expected at least 80%" in result.stderr
    assert json.loads((tmp_path / "report.json").read_text())["certified"] is False
    assert (tmp_path / "report.md").read_text().startswith("# Not certified: ")


def test_limits_are_the_users(stand_in: StandIn) -> None:
    options = ("--reference", DEMO, "--requests", 1, "--min-tokens", 0, "--min-rubrics", 0)
    assert run(stand_in.url, *options).exit_code == 0
    stand_in.answer = lambda _: ""
    assert run(stand_in.url, *options).exit_code == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 503}, ("answered 503",)),
        ({"end": "data: {not json\n\n"}, ("its stream broke off",)),
        (
            {"end": 'data: {"error": {"message": "out of memory", "code": 500}}\n\n'},
            ("broke off with", "out of memory"),
        ),
        ({"end": 'event: error\ndata: {"object": "error", "message": "no"}\n\n'}, ("broke off with", '"no"')),
        ({"end": 'data: {"detail": "no"}\n\n'}, ("broke off with",)),
        ({"end": "data: 5\n\n"}, ("broke off with 5",)),
        ({"end": 'data: {"choices": [5]}\n\n'}, ("broke off with",)),
        ({"end": 'data: {"choices": [{"delta": {"content": 5}}]}\n\n'}, ("broke off with",)),
        ({"end": 'data: {"choices": {"a": 1}}\n\n'}, ("broke off with",)),
        ({"end": ""}, ("broke off before data: [DONE]",)),
        ({"reason": None, "end": ""}, ("broke off before data: [DONE]",)),
        ({"reason": None}, ("for the reason None",)),
        ({"reason": "abort"}, ("for the reason 'abort'",)),
        ({"models": b'{"data": []}{'}, ("names no model",)),
        ({"models": b"[" * 100_000}, ("names no model",)),
        ({"models": b'{"data": [{"id": "x"}]} ', "cut": 4}, ("names no model", "IncompleteRead")),
        ({"cut": 4}, ("broke off",)),
        ({"cut": 60}, ("broke off",)),
    ],
)
def test_server_that_fails(stand_in: StandIn, tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]) -> None:
    for name, value in change.items():
        setattr(stand_in, name, value)
    result = run(stand_in.url, "--reference", DEMO, "--requests", 1, "-o", tmp_path / "report")
    assert result.exit_code == 1
    assert "Error: RUNTIME_FAILED" in result.stderr
    assert all(word in result.stderr for word in words)
    assert not list(tmp_path.iterdir())


def test_events_that_are_no_text_are_passed_over(stand_in: StandIn) -> None:
    stand_in.end = ': alive\n\ndata: {"choices": [], "usage": {"total_tokens": 3}}\n\ndata: [DONE]\n\n'
    assert run(stand_in.url, "--reference", DEMO, "--requests", 1, "--min-tokens", 0, "--min-rubrics", 0).exit_code == 0


def test_an_answer_that_was_cut_is_none(stand_in: StandIn) -> None:
    with RubricModel.open(DEMO) as model:
        head, tail = Bundle.open(DEMO).manifest.prompt.template.split(REQUEST_FIELD)
        stand_in.reason = "length"
        stand_in.answer = lambda prompt: (
            model.generate(prompt.removeprefix(head).removesuffix(tail), max_new_tokens=320).text
        )
        result = run(stand_in.url, "--reference", DEMO, "--requests", 2, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["cut"], report["shared_tokens"], report["rubric_agreement"]) == (2, 0, 0)


def test_no_server(stand_in: StandIn) -> None:
    stand_in.close()
    result = run(stand_in.url, "--reference", DEMO)
    assert (result.exit_code, "cannot be reached" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ftp://x", "--reference", DEMO), "is no server's address"),
        (("http://127.0.0.1:1", "--reference", DEMO, "--device", "cuda"), "--device has no meaning for a server"),
        (("nothing", "--reference", DEMO), "BUNDLE_NOT_FOUND"),
        ((DEMO, "--reference", "nothing"), "BUNDLE_NOT_FOUND"),
        ((DEMO, "--reference", DEMO, "-o", "no/such/place"), "no such directory"),
    ],
)
def test_bad_options(words: tuple[object, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_report_is_replaced_on_request_alone(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("mine")
    options = (DEMO, "--reference", DEMO, "--requests", 1, "-o", tmp_path / "report")
    assert "OUTPUT_EXISTS" in run(*options).stderr
    assert (tmp_path / "report.md").read_text() == "mine"
    assert run(*options, "--force").exit_code == 0


class Scripted:
    """Answers with given texts."""

    def __init__(self, *texts: str) -> None:
        self.name = "script"
        self._texts = iter(texts)

    def answer(self, request: str, max_new_tokens: int) -> WrittenAnswer:
        assert request
        assert max_new_tokens > 0
        return WrittenAnswer(next(self._texts), True, 1.0, 2.0)

    def close(self) -> None:
        pass


def test_share_of_tokens_is_over_all_requests() -> None:
    with RubricModel.open(DEMO) as model:
        tokenizer = model._prompt.tokenizer
    long, short = "1. The response is short. [Hard Rule]", "2. The response"
    reference, candidate = Scripted(long, short), Scripted(long, "no")
    certificate = certify(candidate, reference, tokenizer, ["a", "b"], {}, thresholds=Thresholds(0.5, 0.5))
    lengths = [len(tokenizer.encode(text)) for text in (long, short)]
    assert certificate.shared_tokens == lengths[0] / sum(lengths)
    assert [compared.shared for compared in certificate.requests] == [lengths[0], 0]
