"""`rubricrm certify`: bundles beside bundles, and a stand-in for a GPU's server that is told what to answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from recorded_server import Body, Events, RecordedServer, chunk, serving, whole
from rubricrm.cli import cli
from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import REQUEST_FIELD
from rubricrm_export.certify import answers
from rubricrm_export.certify.answers import WrittenAnswer
from rubricrm_export.certify.certification import Thresholds, certify
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

DEMO = Path(__file__).parents[2] / "sdk" / "python" / "rubricrm" / "demo_bundle"
CHECKPOINT = Path(__file__).parents[2] / "models" / "demo" / "checkpoint"


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["certify", *map(str, words)])


@pytest.fixture(scope="module")
def model() -> Iterator[RubricModel]:
    with RubricModel.open(DEMO) as opened:
        yield opened


@pytest.fixture
def server(model: RubricModel) -> Iterator[RecordedServer]:
    """A server with the reference's answers to ids."""
    pytest.importorskip("openai")
    tokenizer = model.prompt.tokenizer

    def write(body: Body) -> Events:
        stream = model.stream_ids(body["prompt"], max_new_tokens=body["max_tokens"])
        stream.wait()
        return whole(body, stream.result().text)

    def encode(text: str) -> list[int]:
        return tokenizer.encode_segments(tokenizer.split_control(text))

    with serving(RecordedServer("vllm", encode, write=write)) as told:
        yield told


def chat_events(text: str, reason: str | None = "stop") -> Events:
    """A chat's stream."""
    chunks = [chunk(delta={"content": piece}) for piece in (text[:9], text[9:])]
    return [*chunks, chunk("", reason, delta={}), "[DONE]"]


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


def test_server_with_the_references_answers_is_certified(server: RecordedServer, model: RubricModel) -> None:
    result = run("--server", server.url, "--reference", DEMO, "--requests", 3, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["candidate"], report["identical"]) == (f"server {server.url}", 1)
    body = server.bodies[-1]
    assert body["prompt"] == model.prompt.encode_request(report["requests"][-1]["request"])
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("demo", 0, 320)
    assert not [body for body in server.bodies if server.grammar(body)]  # what it writes by itself is compared
    for key in ("first_text", "total"):
        assert report["candidate_ms"][key] > 0


def test_server_with_a_broken_model_is_not(server: RecordedServer, tmp_path: Path) -> None:
    server.write = lambda body: whole(body, "strips strips strips")
    result = run("--server", f"{server.url}/v1", "--reference", DEMO, "--requests", 2, "-o", tmp_path / "report")
    assert result.exit_code == 1
    assert "Error: QUALITY_TOO_LOW" in result.stderr
    assert "of the tokens stand before the first difference, expected at least 50%" in result.stderr
    assert "of the criteria agree, expected at least 80%" in result.stderr
    assert json.loads((tmp_path / "report.json").read_text())["certified"] is False
    assert (tmp_path / "report.md").read_text().startswith("# Not certified: ")


def test_limits_are_the_users(server: RecordedServer) -> None:
    options = ("--reference", DEMO, "--requests", 1, "--min-tokens", 0, "--min-rubrics", 0)
    server.write = lambda body: whole(body, "1. The response rhymes. [Hard Rule]")
    assert run("--server", server.url, *options).exit_code == 0
    server.write = lambda body: whole(body, "")
    assert run("--server", server.url, *options).exit_code == 0


@pytest.mark.parametrize(
    ("events", "code", "words"),
    [
        ([chunk("1. The"), {"error": {"message": "out of memory", "code": 500}}], "SERVER_FAILED", "out of memory"),
        ([chunk("1. The"), {"object": "error", "message": "no memory"}], "SERVER_FAILED", "no memory"),
        ([chunk("1."), chunk("", "stop"), {"error": {"message": "late", "code": 500}}], "SERVER_FAILED", "late"),
        ([chunk("1."), chunk("", "stop"), {"object": "error", "message": "late"}], "SERVER_FAILED", "late"),
        ([chunk("1. The"), "[DONE]"], "STREAM_BROKEN", "no finish_reason"),
        ([chunk("1. The"), chunk("", "abort"), "[DONE]"], "SERVER_FAILED", "for the reason 'abort'"),
        ([chunk("1. The"), "{not json"], "STREAM_BROKEN", "broke off"),
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["completions", "chat"])
def test_server_that_fails(
    server: RecordedServer, tmp_path: Path, way: str, events: Events, code: str, words: str
) -> None:
    # The last answer alone fails: two looks at the server come before it.
    server.write = lambda body: events if body["max_tokens"] == 320 else whole(body)
    server.chat = lambda _: events
    options = ("--reference", DEMO, "--requests", 1, "-o", tmp_path / "report")
    result = run("--server", server.url, *options, *(["--chat"] if way == "chat" else []))
    assert result.exit_code == 1
    assert f"Error: {code}" in result.stderr
    assert words in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_server_with_another_tokenizer_is_not_compared(server: RecordedServer) -> None:
    encode = server.encode
    server.encode = lambda text: [*encode(text), 5]
    result = run("--server", server.url, "--reference", DEMO, "--requests", 1)
    assert (result.exit_code, "has another tokenizer" in result.stderr) == (2, True)


def test_an_answer_that_was_cut_is_none(server: RecordedServer) -> None:
    write = server.write
    server.write = lambda body: [
        event | {"choices": [{**choice, "finish_reason": choice["finish_reason"] and "length"}]}
        if isinstance(event, dict) and event["choices"] and (choice := event["choices"][0])
        else event
        for event in write(body)
    ]
    result = run("--server", server.url, "--reference", DEMO, "--requests", 2, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["cut"], report["shared_tokens"], report["rubric_agreement"]) == (2, 0, 0)


def test_a_server_that_writes_for_too_long(server: RecordedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_TIMEOUT_S", 0.2)
    server.write = lambda body: [chunk("1. The"), 30.0, *whole(body)] if body["max_tokens"] == 320 else whole(body)
    server.chat = lambda body: [chunk(delta={"content": "1. The"}), 30.0, *whole(body | {"prompt": []})]
    for words in ((), ("--chat",)):
        result = run("--server", server.url, "--reference", DEMO, "--requests", 1, *words)
        assert (result.exit_code, "wrote for longer than 0 s" in result.stderr) == (1, True), result.output


def test_a_server_that_takes_messages_alone(server: RecordedServer, model: RubricModel) -> None:
    head, tail = Bundle.open(DEMO).manifest.prompt.template.split(REQUEST_FIELD)

    def chat(body: Body) -> Events:
        request = body["messages"][0]["content"].removeprefix(head).removesuffix(tail)
        return chat_events(model.generate(request, max_new_tokens=320, constrain=False).text)

    server.chat = chat
    result = run("--server", server.url, "--chat", "--reference", DEMO, "--requests", 3, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["candidate"], report["identical"]) == (f"server {server.url}", 1)
    assert 0 < report["candidate_ms"]["first_text"] < report["candidate_ms"]["total"]
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["stream"]) == ("demo", 0, True)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    result = run("--server", server.url, "--chat", "--server-model", "x", "--reference", DEMO)
    assert (result.exit_code, "has the models demo, expected x" in result.stderr) == (2, True)


@pytest.mark.parametrize("words", [(), ("--chat",)], ids=str)
def test_no_server(words: tuple[str, ...]) -> None:
    pytest.importorskip("openai")
    result = run("--server", "http://127.0.0.1:9", "--reference", DEMO, *words)
    assert (result.exit_code, "SERVER_UNREACHABLE" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--server", "ftp://x", "--reference", DEMO), "is no server's address"),
        (("--server", "ftp://x", "--reference", DEMO, "--chat"), "is no server's address"),
        (("--server", "http://x", "--reference", DEMO, "--device", "cuda"), "--device has no effect with --server"),
        (("--reference", DEMO), "Give either TARGET, a bundle or a directory, or --server URL"),
        ((DEMO, "--server", "http://x", "--reference", DEMO), "Give either TARGET"),
        ((DEMO, "--chat", "--reference", DEMO), "--chat has no effect without --server"),
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
