"""Clients that leave, wait, are slow, or say nothing."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest
from rubricrm import RubricModel
from served import LONG, LONG_CHAT, Served, serving, wait_until

FILES = 3000


@pytest.fixture
def small(demo: RubricModel) -> Iterator[Served]:
    """A server with few places, little time and little patience."""
    with serving(
        demo, max_concurrency=2, max_waiting=1, header_timeout_s=0.4, body_timeout_s=0.4, stall_timeout_s=0.5
    ) as running:
        yield running


def post(port: int, body: dict[str, object], path: str = "/v1/rubrics") -> socket.socket:
    """Send a request, and leave its answer unread."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    sender = socket.create_connection(("127.0.0.1", port), timeout=20)
    sender.sendall(head.encode() + content)
    return sender


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has ended it."""
    try:
        return not connection.recv(65536)
    except ConnectionError:
        return True


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/rubrics", "/v1/chat/completions"])
def test_a_client_that_leaves_frees_its_place(served: Served, path: str, stream: bool) -> None:
    body = {**(LONG if path == "/v1/rubrics" else LONG_CHAT), "stream": stream}
    senders = [post(served.port, body, path) for _ in range(3)]
    wait_until(lambda: served.service.admission.running == 3)
    for sender in senders:
        sender.close()
    wait_until(served.is_idle)


def test_one_that_waits_and_leaves_frees_its_place_in_line(small: Served) -> None:
    with ExitStack() as open_:
        for _ in range(2):
            open_.enter_context(post(small.port, LONG))
        wait_until(lambda: small.service.admission.running == 2)
        for stream in (True, False):
            with post(small.port, {**LONG, "stream": stream}):
                wait_until(lambda: small.service.admission.waiting == 1)
            wait_until(lambda: small.service.admission.waiting == 0)
    wait_until(small.is_idle)


@pytest.mark.parametrize("path", ["/v1/rubrics", "/v1/chat/completions"])
def test_a_stream_is_never_silent_for_long(served: Served, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rubricrm_serve.choices._QUIET_S", 0.001)  # a step takes longer
    body = {**(LONG if path == "/v1/rubrics" else LONG_CHAT), "stream": True}
    with post(served.port, body, path) as sender:
        comments = (line for line in sender.makefile("rb") if line.startswith(b":"))
        assert [next(comments) for _ in range(3)] == [b": nothing yet\n"] * 3
    wait_until(served.is_idle)


def test_more_than_run_and_wait_are_refused_at_once(small: Served) -> None:
    with ExitStack() as open_, httpx2.Client(base_url=small.url, timeout=30) as client:
        for _ in range(3):
            open_.enter_context(post(small.port, LONG))
        wait_until(lambda: small.service.admission.waiting == 1)
        queue = client.get("/queue").json()
        assert queue == {"running": 2, "waiting": 1, "max_concurrency": 2, "max_waiting": 1, "draining": False}
        for path, body in (
            ("/v1/rubrics", {"request": "Write."}),
            ("/v1/rubrics", {"request": "Write.", "stream": True}),
            ("/v1/completions", {"model": "rubricrm-demo", "prompt": "Write.", "n": 4, "temperature": 1}),
        ):
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["error"]["type"] == "overloaded"
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        assert 'admission_rejections_total{model_name="rubricrm-demo",reason="full"} 3.0' in client.get("/metrics").text
    wait_until(small.is_idle)


def test_a_request_that_takes_too_long(demo: RubricModel) -> None:
    with serving(demo, max_concurrency=4, timeout_s=0.05) as served, httpx2.Client(base_url=served.url) as client:
        answer = client.post("/v1/chat/completions", json={**LONG_CHAT, "stream": False}, timeout=30)
        assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
        stream = client.post("/v1/chat/completions", json=LONG_CHAT, timeout=30)
        assert stream.status_code == 200
        last = json.loads(stream.text.strip().rpartition("data: ")[2])
        assert last["error"]["code"] == "deadline_exceeded"
        assert '"finish_reason":"' not in stream.text
        result = client.post("/v1/rubrics", json={**LONG, "stream": False}, timeout=30).json()
        assert result["finish_reason"] == "timeout"


def test_connections_that_say_nothing(small: Served) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit[0] < FILES:
        pytest.skip(f"a process may open {limit[0]} files here, and this test needs {FILES}")
    with ExitStack() as open_:
        silent = [
            open_.enter_context(socket.create_connection(("127.0.0.1", small.port), timeout=20)) for _ in range(1000)
        ]
        with httpx2.Client(base_url=small.url, timeout=30) as client:
            assert client.post("/v1/rubrics", json={"request": "Write.", "max_new_tokens": 2}).status_code == 200
        assert all(map(is_closed, silent))
    wait_until(lambda: not small.server.server_state.connections)
    cut = 'rubricrm_connections_cut_total{model_name="rubricrm-demo",reason="silent"} 1000.0'
    assert cut in httpx2.get(f"{small.url}/metrics").text


def test_headers_that_never_end(small: Served) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as sender:
        sender.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        for _ in range(3):
            time.sleep(0.1)
            sender.sendall(b"X-A: b\r\n")
        assert is_closed(sender)


def test_headers_that_are_too_long(small: Served) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as sender:
        sender.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 40_000)
        assert sender.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_never_ends(small: Served) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as sender:
        head = b"POST /v1/rubrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        sender.sendall(head + b'{"request":')
        answer = sender.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"request_timeout" in answer + sender.recv(65536)


def test_one_that_takes_nothing_is_cut_off(small: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # An answer that no buffer on the way holds.
    monkeypatch.setattr(type(small.service.metrics), "text", lambda _: b"x" * (64 << 20))
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as sender:
        sender.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: small.server.server_state.connections)
        wait_until(lambda: not small.server.server_state.connections)


def test_a_slow_reader_gives_its_place_back_and_gets_everything(small: Served) -> None:
    with post(small.port, {**LONG, "max_new_tokens": 100, "logprobs": 20}) as slow:
        wait_until(lambda: small.service.admission.running == 1)
        wait_until(small.is_idle)
        answer = b""
        while b"\r\n0\r\n\r\n" not in answer:
            answer += slow.recv(65536)
    assert answer.count(b"event: result") == 1


def test_clients_that_come_and_go(served: Served) -> None:
    """Every request has an answer or was left; nothing stays."""

    async def one(client: httpx2.AsyncClient, number: int) -> int | None:
        body = {"request": f"Write {number}.", "max_new_tokens": 6, "stream": number % 2 == 0}
        try:
            async with asyncio.timeout(0.05 * (number % 7) if number % 3 else None):
                return (await client.post("/v1/rubrics", json=body)).status_code
        except TimeoutError:
            return None

    async def main() -> list[int | None]:
        async with httpx2.AsyncClient(base_url=served.url, timeout=60) as client:
            return await asyncio.gather(*(one(client, number) for number in range(60)))

    found = asyncio.run(main())
    assert set(found) <= {200, None}
    assert found[::3] == [200] * 20
    wait_until(served.is_idle)
    assert not served.service.admission.waiting
