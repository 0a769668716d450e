"""SIGTERM: no new work, what runs ends whole or with an error, and the process ends."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from rubricrm import RubricModel
from served import LONG, LONG_CHAT, serving, wait_until

READY = re.compile(r"at (http://\S+)")


@contextmanager
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port; yield it and its URL."""
    command = [sys.executable, "-m", "rubricrm", "serve", "--port", "0", "--threads", "1"]
    environment = {**os.environ, "RUBRICRM_API_KEY": ""}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as started:
        try:
            assert started.stderr is not None
            found = next(match for line in started.stderr if (match := READY.search(line)))
            yield started, found[1]
        finally:
            started.kill()


def events(answer: httpx2.Response) -> Iterator[tuple[str, dict[str, object]]]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_what_runs_ends_whole(tmp_path: Path) -> None:
    with process(tmp_path) as (server, url), httpx2.Client(base_url=url, timeout=60) as client:
        with client.stream("POST", "/v1/rubrics", json={**LONG, "max_new_tokens": 400}) as answer:
            found = events(answer)
            assert next(found)[0] == "text"
            server.send_signal(signal.SIGTERM)
            refused = [client.get("/ready"), client.post("/v1/rubrics", json={"request": "Write."})]
            while refused[0].status_code == 200:  # the signal is on its way
                refused = [client.get("/ready"), client.post("/v1/rubrics", json={"request": "Write."})]
            assert [each.status_code for each in refused] == [503, 503]
            assert {each.json()["error"]["code"] for each in refused} == {"shutting_down"}
            assert client.get("/health").status_code == 200
            last, result = list(found)[-1]
        assert (last, result["finish_reason"]) == ("result", "length")
        assert server.wait(20) == 0


@pytest.mark.parametrize("path", ["/v1/rubrics", "/v1/chat/completions"])
def test_what_does_not_end_in_time_gets_an_error(demo: RubricModel, path: str) -> None:
    body = LONG if path == "/v1/rubrics" else LONG_CHAT
    with (
        serving(demo, max_concurrency=4, grace_s=0.2) as served,
        httpx2.Client(base_url=served.url, timeout=60) as client,
        ThreadPoolExecutor(1) as beside,
    ):
        whole = beside.submit(client.post, path, json={**body, "stream": False})
        with client.stream("POST", path, json=body) as answer:
            found = events(answer)
            next(found)
            wait_until(lambda: served.service.admission.running == 2)
            served.server.drain()
            _, last = list(found)[-1]
        assert last["error"]["code"] == "shutting_down"  # type: ignore[index]
        assert (whole.result().status_code, whole.result().headers["retry-after"]) == (503, "1")
        wait_until(served.is_idle)
