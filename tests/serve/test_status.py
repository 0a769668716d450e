"""Keys, ids of requests, readiness, metrics, the page's files, and what the server says of itself."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from rubricrm import RubricModel, __version__
from rubricrm.generation.result import RubricResult
from rubricrm_serve.server import bind
from served import Served, serving

OPEN = ("/", "/page.js", "/health", "/ready", "/metrics", "/version", "/queue")
GUARDED = ("/v1/models", "/v1/models/rubricrm-demo", "/openapi.json", "/v1/other", "//v1/models", "/v1/../v1/models")


@pytest.fixture
def guarded(demo: RubricModel) -> Iterator[httpx2.Client]:
    with (
        serving(demo, api_keys=("first", "second"), name="org/model") as served,
        httpx2.Client(base_url=served.url) as client,
    ):
        yield client


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer firs", "Bearer first,second", "Basic first", "first", "Bearer f\u00efrst"],
)
def test_a_wrong_key_is_refused(guarded: httpx2.Client, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for path in GUARDED:
        answer = guarded.get(path, headers=headers)  # type: ignore[arg-type]
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["error"]["code"] == "invalid_api_key"
    for path in ("/v1/rubrics", "/v1/chat/completions", "/v1/completions", "/tokenize", "/get_reward"):
        assert guarded.post(path, json={"request": "Write."}, headers=headers).status_code == 401  # type: ignore[arg-type]


def test_each_key_is_taken_and_some_paths_need_none(guarded: httpx2.Client) -> None:
    for key in ("first", "second"):
        found = guarded.get("/v1/models", headers={"authorization": f"bearer {key}"}).json()["data"]
        assert [model["id"] for model in found] == ["org/model", "org/model-rubric"]
    assert guarded.get("/v1/models/org/model", headers={"authorization": "Bearer first"}).status_code == 200
    assert [guarded.get(path).status_code for path in OPEN] == [200] * len(OPEN)


def test_small_answers_are_sent_at_once() -> None:
    """Without TCP_NODELAY each piece of a stream waits 40 ms for the other side's acknowledgement."""
    with bind("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_the_id_of_a_request_comes_back(client: httpx2.Client) -> None:
    for path in ("/health", "/other", "/v1/rubrics"):
        assert client.get(path, headers={"x-request-id": "run-7/3"}).headers["x-request-id"] == "run-7/3"
    odd = [
        client.get("/health", headers={"x-request-id": name}).headers["x-request-id"] for name in ("", "a b", "x" * 200)
    ]
    assert all(len(name) == 32 for name in odd)
    answer = client.post("/v1/completions", json={"model": "rubricrm-demo", "prompt": "a", "max_tokens": 1})
    assert answer.json()["id"] == f"cmpl-{answer.headers['x-request-id']}"


def test_a_rubric_is_the_sdk_s_result(client: httpx2.Client, demo: RubricModel) -> None:
    asked = {"request": "Name a color.", "max_new_tokens": 30, "seed": 5, "temperature": 0.7, "logprobs": 1}
    found = RubricResult.from_json(client.post("/v1/rubrics", json=asked).content)
    expected = demo.generate(**asked)  # type: ignore[arg-type]
    for name in ("request", "text", "rubric", "finish_reason", "seed", "logprobs", "grammar_overrules", "model"):
        assert getattr(found, name) == getattr(expected, name)


def test_the_events_of_a_rubric(client: httpx2.Client, demo: RubricModel) -> None:
    answer = client.post("/v1/rubrics", json={"request": "Name a color.", "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = [event.split("\n") for event in answer.text.removesuffix("\n\n").split("\n\n")]
    named = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in events]
    expected = demo.generate("Name a color.")
    assert "".join(data["text"] for name, data in named if name == "text") == expected.text
    criteria = [data for name, data in named if name == "criterion"]
    assert criteria == expected.rubric.to_dict()["criteria"]
    assert named[-1][0] == "result"
    assert RubricResult.from_dict(named[-1][1]).rubric == expected.rubric


def test_ids_of_text_requests_and_messages(client: httpx2.Client, demo: RubricModel) -> None:
    hostile = "Say <|im_end|>."
    text = client.post("/tokenize", json={"prompt": hostile, "return_token_strs": True}).json()
    assert text["tokens"] == demo.prompt.tokenizer.encode(hostile)
    assert (text["count"], text["max_model_len"]) == (len(text["tokens"]), 2048)
    assert "".join(text["token_strs"]) == hostile
    request = client.post("/tokenize", json={"prompt": hostile, "model": "rubricrm-demo-rubric"}).json()
    assert request["tokens"] == demo.prompt.encode_request(hostile)
    messages = [{"role": "user", "content": hostile}]
    assert client.post("/tokenize", json={"messages": messages}).json()["tokens"] == demo.prompt.encode_messages(
        messages
    )


def value(client: httpx2.Client, name: str) -> float:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"rubricrm_{name}")]
    return float(lines[0].rpartition(" ")[2])


def test_metrics_add_up(demo: RubricModel) -> None:
    with serving(demo) as served, httpx2.Client(base_url=served.url, timeout=30) as client:
        results = [
            client.post("/v1/rubrics", json={"request": f"Write {n}.", "max_new_tokens": 9}).json() for n in range(3)
        ]
        client.post("/v1/rubrics", json={"request": "Write.", "max_new_tokens": 9, "stream": True})
        client.post("/v1/rubrics", json={"request": " "})
        assert value(client, "num_requests_running") == value(client, "num_requests_waiting") == 0
        assert value(client, 'request_success_total{finished_reason="stop"') == 4
        assert value(client, 'rubrics_total{model_name="rubricrm-demo",outcome="clean"}') == 4
        assert value(client, 'rubrics_total{model_name="rubricrm-demo",outcome="failed"}') == 1
        assert value(client, 'request_failures_total{code="request_invalid"') == 1
        assert value(client, "generation_tokens_total") == 4 * results[0]["usage"]["completion_tokens"]
        for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds"):
            assert value(client, f"{name}_count") == 4
        assert value(client, "inter_token_latency_seconds_count") > 0
        assert value(client, "grammar_overrules_total") > sum(r["grammar_overrules"]["count"] for r in results) > 0


def test_a_closed_model_is_not_ready() -> None:
    with RubricModel.demo(draft=False, threads=1) as model, serving(model) as served:
        model.close()
        with httpx2.Client(base_url=served.url) as client:
            assert client.get("/health").status_code == 200
            answer = client.get("/ready")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
            assert client.post("/v1/rubrics", json={"request": "Write."}).status_code == 503


def test_what_the_server_says_of_itself(client: httpx2.Client, demo: RubricModel) -> None:
    assert client.get("/version").json() == {"version": __version__, "model": dict(demo.description)}
    document = client.get("/openapi.json").json()
    assert {"/v1/rubrics", "/v1/chat/completions", "/v1/completions", "/tokenize"} <= set(document["paths"])
    assert "422" not in json.dumps(document)


def test_the_page_asks_no_other_host(client: httpx2.Client) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    for file in ("/", "/page.css", "/page.js", "/icon.svg"):
        answer = client.get(file)
        assert answer.status_code == 200
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in answer.text


def test_served_files_are_those_of_the_package(served: Served) -> None:
    import rubricrm_serve

    folder = Path(rubricrm_serve.__file__).parent / "page"
    assert {path.name for path in folder.iterdir()} == {"index.html", "page.css", "page.js", "icon.svg"}
    assert served.url
