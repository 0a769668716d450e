"""`rubricrm bench --server`: the same report for a model on a server, without what only the server could tell."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from recorded_server import RUBRIC, RecordedServer, chunk, serving, usage
from rubricrm import Bundle, RubricModel, write_prompt_directory
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid
from rubricrm.served_model import ServedModel
from rubricrm.text_model import DEMO_BUNDLE
from rubricrm_bench.bench_job import BenchJob
from tokenizers import Tokenizer

pytest.importorskip("openai")
pytest.importorskip("matplotlib")

SHORT = ["--repeat", "4", "--openings", "2", "--warmup", "1"]
REQUESTS = ["Write a haiku.", "Name three colors."]


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["bench", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompt_directory(Bundle.open(DEMO_BUNDLE), tmp_path_factory.mktemp("prompt") / "prompt").path


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("requests") / "requests.jsonl"
    path.write_text("".join(json.dumps({"request": request}) + "\n" for request in REQUESTS))
    return path


@pytest.fixture
def server(prompt: Path) -> Iterator[RecordedServer]:
    tokenizer = Tokenizer.from_file(str(prompt / "tokenizer.json"))

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    with serving(RecordedServer("vllm", encode)) as told:
        yield told


def test_the_report_has_what_clients_see_and_nothing_else(
    server: RecordedServer, prompt: Path, requests: Path, tmp_path: Path
) -> None:
    paths: list[str | Path] = ["--json", tmp_path / "out.json", "--html", tmp_path / "out.html"]
    words: list[str | Path] = [
        "--server",
        server.url,
        "--prompt",
        prompt,
        "--requests",
        requests,
        "--concurrency",
        "1,2",
    ]
    result = invoke(*words, *SHORT, "--slo", "ttft=100000", *paths)
    assert result.exit_code == 0, result.output
    assert f"`demo` at {server.url} (vllm), weights and machine unknown" in result.stdout
    assert "**Not ranked:** nobody knows whether the answers are right. Pass --reference BUNDLE" in result.stdout
    report = json.loads((tmp_path / "out.json").read_text())
    bundle = report["bundle"]
    assert (bundle["model"], bundle["manifest_sha256"]) == ("demo", Bundle.open(prompt).manifest_sha256)
    assert {key for key, fact in bundle.items() if fact is not None} == {"model", "manifest_sha256", "path"}
    assert (report["roofline"], report["peak_rss_bytes"], report["machine"]["threads"]) == (None, None, None)
    assert set(report["load_ms"].values()) == {None}
    assert (report["server"]["dialect"], report["server"]["constraint"]) == ("vllm", "regex")
    assert (report["answers"]["right"], report["partial"], report["failure"]) == (None, False, None)
    assert [(row["name"], row["concurrency"], row["ranked"]) for row in report["rows"]] == [
        ("rubrics", 1, False),
        ("rubrics", 2, False),
    ]
    for row in report["rows"]:
        assert len(row["samples"]) == 4
        assert row["ttft_ms"]["n"] == row["first_criterion_ms"]["n"] == 4
        assert row["decode_tokens_per_s"] > 0
        assert row["goodput_per_min"] == pytest.approx(row["rubrics_per_min"])
        untold = ("roofline", "prefill_tokens_per_s", "rubrics_per_min_per_gb", "draft_acceptance", "grammar_overrules")
        assert [row[key] for key in untold] == [None] * 5
        for sample in row["samples"]:
            assert sample["new_tokens"] == len(RUBRIC.split(" "))
            assert (sample["cached_tokens"], sample["prefill_ms"], sample["drafted_tokens"]) == (4, None, None)
    page = (tmp_path / "out.html").read_text()
    assert f"demo, at {server.url}" in page
    assert "Not ranked: nobody knows" in page


def test_what_the_server_does_not_count_is_left_out(server: RecordedServer, prompt: Path, requests: Path) -> None:
    def write(body: dict[str, Any]) -> Any:
        return [chunk(RUBRIC), chunk("", "stop"), usage(len(body["prompt"])), "[DONE]"]

    server.write = write
    server.holds = True
    whole_events = server.events

    def events(body: dict[str, Any]) -> Any:
        told = whole_events(body)
        return [
            event | {"usage": {**event["usage"], "prompt_tokens_details": None}}
            if isinstance(event, dict) and event.get("usage")
            else event
            for event in told
        ]

    server.events = events
    result = invoke("--server", server.url, "--prompt", prompt, "--requests", requests, *SHORT, "--json", "-")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["server"]["cached_tokens"] is False
    assert {sample["cached_tokens"] for sample in report["rows"][0]["samples"]} == {None}


def scripted(texts: dict[str, str]) -> Callable[[dict[str, Any]], Any]:
    """Return a server's answers by the request whose prompt is asked."""
    with RubricModel.open(DEMO_BUNDLE) as model:
        by_ids = {tuple(model._prompt.encode_request(request)): text for request, text in texts.items()}

    def write(body: dict[str, Any]) -> Any:
        text = by_ids[tuple(body["prompt"])]
        return [chunk(text), chunk("", "stop"), usage(len(body["prompt"]), cached=0), "[DONE]"]

    return write


def test_a_reference_ranks_or_refuses_the_rows(server: RecordedServer, prompt: Path, requests: Path) -> None:
    with RubricModel.open(DEMO_BUNDLE) as model:
        texts = {request: model.generate(request, constrain=False).text for request in REQUESTS}
    words = ["--server", server.url, "--prompt", prompt, "--requests", requests, *SHORT, "--reference", DEMO_BUNDLE]
    server.write = scripted(texts)
    right = invoke(*words, "--json", "-")
    assert right.exit_code == 0, right.output
    report = json.loads(right.stdout)
    assert report["answers"] == {"right": True, "compared": f"100% of the tokens of {DEMO_BUNDLE.name}"}
    assert [row["ranked"] for row in report["rows"]] == [True]
    server.write = scripted(dict.fromkeys(REQUESTS, "Nonsense."))
    wrong = invoke(*words)
    assert wrong.exit_code == 1
    assert "**Not ranked, the answers are wrong:** only 0% of the tokens" in wrong.stdout


def test_a_server_that_fails_leaves_what_was_measured(
    server: RecordedServer, prompt: Path, requests: Path, tmp_path: Path
) -> None:
    sound, asked = server.write, []

    def write(body: dict[str, Any]) -> Any:
        asked.append(body)
        if len(asked) > 3:
            return [chunk("1. The"), {"error": {"message": "out of memory", "code": 500}}]
        return sound(body)

    server.write = write
    words = ["--server", server.url, "--prompt", prompt, "--requests", requests, *SHORT]
    result = invoke(*words, "--json", tmp_path / "out.json")
    assert result.exit_code == 1
    assert "SERVER_FAILED" in result.stderr
    assert "**Partial: the server failed." in result.stdout
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["partial"]
    assert "out of memory" in report["failure"]
    assert [len(row["samples"]) for row in report["rows"]] == [2]


def test_a_busy_server_is_not_asked_again(server: RecordedServer, prompt: Path, requests: Path) -> None:
    sound = server.write

    def write(body: dict[str, Any]) -> Any:
        server.refusals.append((503, {"error": {"message": "busy"}}))
        return sound(body)

    server.write = write
    result = invoke("--server", server.url, "--prompt", prompt, "--requests", requests, *SHORT)
    assert result.exit_code == 1
    assert "SERVER_BUSY" in result.stderr
    assert not server.refusals  # a second try would have been answered


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_tokens": (40,), "new_tokens": (5,)}, "no length can be fixed"),
        ({"device": "cpu"}, "--device has no effect with --server"),
        ({"threads": 2}, "--threads has no effect with --server"),
        ({"draft": True}, "--draft has no effect with --server"),
    ],
    ids=str,
)
def test_options_without_effect(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionInvalid, match=message):
        BenchJob(ServedModel("http://x", Path("prompt")), **options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing argument 'BUNDLE', or --server URL with --prompt DIR"),
    ],
    ids=str,
)
def test_bad_usage(words: list[str], message: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert message in result.output


def test_the_key_is_in_no_representation() -> None:
    assert "secret" not in repr(BenchJob(ServedModel("http://x", Path("prompt"), api_key="secret")))
