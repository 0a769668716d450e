"""Bodies that are wrong: each gets a status and an error that says what is wrong, and the server goes on."""

import json
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import Served

RUBRICS, CHAT, TEXTS, IDS = "/v1/rubrics", "/v1/chat/completions", "/v1/completions", "/tokenize"
POSTS = (RUBRICS, CHAT, TEXTS, IDS)
JSON = {"content-type": "application/json"}
NAME = "rubricrm-demo"


def error(answer: httpx2.Response) -> dict[str, Any]:
    found = answer.json()
    assert set(found) == {"error"}
    assert set(found["error"]) == {"message", "type", "param", "code"}
    assert found["error"]["message"]
    assert isinstance(found["error"], dict)
    return found["error"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_value"),
        (b'{"request": "Wri', 400, "invalid_json"),
        (b"[1, 2]", 400, "invalid_value"),
        (b"null", 400, "invalid_value"),
        (b'"text"', 400, "invalid_value"),
        (b'{"request": "\xff\xfe"}', 400, None),
        (b'{"request": "a"} and more', 400, "invalid_json"),
        (b"[" * 100_000, 400, None),
        (b'{"seed": ' + b"9" * 10_000 + b"}", 400, None),
        (b'{"\\ud800": 1, "request": "a", "prompt": "a", "model": "rubricrm-demo", "messages": []}', 400, None),
    ],
    ids=["empty", "cut", "list", "null", "string", "not UTF-8", "two", "deep", "long number", "surrogate"],
)
def test_a_body_that_is_no_request(
    client: httpx2.Client, path: str, body: bytes, status: int, code: str | None
) -> None:
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code == status
    found = error(answer)
    assert code is None or found["code"] == code


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_is_not_said_to_be_json(client: httpx2.Client, path: str) -> None:
    for headers in ({}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}):
        answer = client.post(path, content=b'{"request": "Write."}', headers=headers)
        assert (answer.status_code, error(answer)["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_is_too_large(client: httpx2.Client, path: str) -> None:
    body = json.dumps({"request": "x" * (1 << 20)}).encode()
    chunks = (body[start : start + 65536] for start in range(0, len(body), 65536))
    for content in (body, chunks):  # with a length, and without
        answer = client.post(path, content=content, headers=JSON)
        assert (answer.status_code, error(answer)["code"]) == (413, "request_too_large")
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "request"),
        ({"request": None}, "request"),
        ({"request": ["Write."]}, "request"),
        ({"request": ""}, "request"),
        ({"request": "Write.", "requset": "a"}, "requset"),
        ({"request": "Write.", "max_tokens": 5}, "max_tokens"),
        ({"request": "Write.", "temperature": 101}, "temperature"),
        ({"request": "Write.", "seed": -1}, "seed"),
        ({"request": "Write.", "seed": 1.5}, "seed"),
        ({"request": "Write.", "stream": "yes"}, "stream"),
        ({"request": "Write.", "stop": "a"}, "stop"),
        ({"request": "Write.", "logprobs": 21}, "logprobs"),
        ({"request": "Write.", "timeout_s": 0}, "timeout_s"),
    ],
)
def test_a_field_that_is_wrong_is_named(client: httpx2.Client, body: dict[str, Any], param: str) -> None:
    answer = client.post(RUBRICS, json=body)
    assert (answer.status_code, error(answer)["param"]) == (400, param)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none(client: httpx2.Client, number: str) -> None:
    body = f'{{"request": "Write.", "temperature": {number}}}'.encode()
    answer = client.post(RUBRICS, content=body, headers=JSON)
    assert (answer.status_code, error(answer)["param"]) == (400, "temperature")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (RUBRICS, {"request": " \n\t"}),
        (RUBRICS, {"request": "a\0b"}),
        (RUBRICS, {"request": "Write.", "temperature": 0.0001}),
        (CHAT, {"model": NAME, "messages": [{"role": "user", "content": "  "}]}),
        (CHAT, {"model": NAME, "messages": [{"role": "assistant", "content": "I am last."}]}),
        (CHAT, {"model": f"{NAME}-rubric", "messages": [{"role": "system", "content": "No user."}]}),
        (CHAT, {"model": NAME, "messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}),
        (TEXTS, {"model": NAME, "prompt": " "}),
        (TEXTS, {"model": NAME, "prompt": [10**6]}),
        (TEXTS, {"model": NAME, "prompt": []}),
        (TEXTS, {"model": NAME, "prompt": ["a", [1]]}),
        (TEXTS, {"model": f"{NAME}-rubric", "prompt": [1, 2]}),
        (TEXTS, {"model": NAME, "prompt": "Write.", "form": "rubric"}),
        (TEXTS, {"model": NAME, "prompt": [1, 2], "form": "haiku"}),
        (IDS, {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}),
        (IDS, {}),
        (IDS, {"model": f"{NAME}-rubric", "messages": [{"role": "user", "content": "a"}]}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_does_not_take(client: httpx2.Client, path: str, body: dict[str, Any], stream: bool) -> None:
    answer = client.post(path, json={**body, "stream": stream} if path != IDS else body)
    assert answer.status_code == 400
    assert error(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", [RUBRICS, CHAT, TEXTS])
def test_a_prompt_beyond_the_context(client: httpx2.Client, path: str) -> None:
    text = "word " * 3000
    fields = {"request": text} if path == RUBRICS else {"model": NAME}
    fields |= {"messages": [{"role": "user", "content": text}]} if path == CHAT else {}  # type: ignore[dict-item]
    fields |= {"prompt": text} if path == TEXTS else {}
    found = error(client.post(path, json=fields))
    assert (found["param"], found["code"]) == ("input_tokens", "context_length_exceeded")
    assert "2048" in found["message"]


def test_a_model_that_is_not_there(client: httpx2.Client) -> None:
    for path, fields in ((RUBRICS, {"request": "a"}), (TEXTS, {"prompt": "a"}), (IDS, {"prompt": "a"})):
        answer = client.post(path, json={"model": "gpt-5", **fields})
        assert (answer.status_code, error(answer)["code"]) == (404, "model_not_found")


def test_paths_and_methods_that_are_not_there(client: httpx2.Client) -> None:
    for method, path, status in (("GET", "/v1/embeddings", 404), ("GET", RUBRICS, 405), ("TRACE", "/health", 405)):
        answer = client.request(method, path)
        assert answer.status_code == status
        error(answer)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["request", "model", "prompt", "messages", "n", "stop", "seed", "stream", "logprobs", "tools"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(POSTS), body=st.dictionaries(fields | st.text(max_size=4), json_values, max_size=4))
def test_no_body_fails_the_server(client: httpx2.Client, served: Served, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, content=json.dumps({**body, "max_new_tokens": 1}).encode(), headers=JSON)
    assert answer.status_code in (200, 400, 404)
    if answer.status_code != 200:
        error(answer)
    assert not served.service.admission.running
