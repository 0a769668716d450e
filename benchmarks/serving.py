#!/usr/bin/env python3
"""What HTTP costs: `rubricrm serve` beside the same model driven directly, in turns, in one run.

    serving.py BUNDLE [--senders 8] [--requests 2] [--new 128] [--rounds 3] [--alone 40] [--threads N]

Throughput: every sender streams its requests one after another, all senders at once; once from the model in this
process, once over HTTP from a server in a process of its own, with the same options; then one sender alone over HTTP.
Rubrics are held to their form. Nothing is drafted and no prompt is kept, so that a round repeats the work of the one
before. The clients run on the same cores as the server. Cost of a request: the median of `--alone` answers of one
token, over HTTP and directly. Cost of an event: the same of whole streams.
Processor time per token is that of the process that computes, and over HTTP that of the clients too: on a machine that
others use, it says more than the clock.
Prints one JSON object; times in seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rubricrm import RubricModel
from rubricrm_bench.machine_facts import machine_facts

Send = Callable[[str, int], int]


@contextmanager
def served(bundle: Path, senders: int, threads: int | None) -> Iterator[tuple[int, psutil.Process]]:
    """Run a server; yield its port and its process."""
    options = ["--no-draft", "--no-keep-prompts", "--no-access-log", "--max-concurrency", str(senders)]
    options += [] if threads is None else ["--threads", str(threads)]
    command = [sys.executable, "-m", "rubricrm", "serve", "-m", str(bundle), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            found = next(match for line in server.stderr if (match := re.search(r"at http://[\d.]+:(\d+)", line)))
            threading.Thread(target=server.stderr.read, daemon=True).start()
            yield int(found[1]), psutil.Process(server.pid)
        finally:
            server.terminate()
            server.wait(30)


class Client:
    """One connection, kept alive."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def stream(self, request: str, new: int) -> int:
        """Stream a rubric; return its tokens."""
        body = json.dumps({"request": request, "max_new_tokens": new, "stream": True})
        self._connection.request("POST", "/v1/rubrics", body, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        assert answer.status == 200, answer.read()
        last = b""
        while line := answer.readline():
            last = line if line.startswith(b"data: ") else last
        return int(json.loads(last.removeprefix(b"data: "))["usage"]["completion_tokens"])

    def whole(self, request: str, new: int) -> int:
        """Get a rubric at once; return its tokens."""
        body = json.dumps({"request": request, "max_new_tokens": new})
        self._connection.request("POST", "/v1/rubrics", body, {"content-type": "application/json"})
        return int(json.loads(self._connection.getresponse().read())["usage"]["completion_tokens"])

    def health(self, *_: object) -> int:
        """Ask for nothing."""
        self._connection.request("GET", "/health")
        return len(self._connection.getresponse().read())


def direct_stream(model: RubricModel) -> Send:
    """Return what streams a rubric from a model in this process."""

    def stream(request: str, new: int) -> int:
        with model.stream(request, max_new_tokens=new) as events:
            for _ in events:
                pass
        return events.result().usage.completion_tokens

    return stream


def turn(sends: list[Send], requests: int, new: int, *processes: psutil.Process) -> dict[str, Any]:
    """Let each sender send its requests, all senders at once; return tokens and processor time."""
    counts = [0] * len(sends)

    def run(index: int) -> None:
        for number in range(requests):
            counts[index] += sends[index](f"Write text number {index * requests + number} about rain.", new)

    before = [cpu_s(process) for process in processes]
    started = time.perf_counter()
    with ThreadPoolExecutor(len(sends)) as pool:
        list(pool.map(run, range(len(sends))))  # raises what a sender met
    seconds_taken = time.perf_counter() - started
    used = [(cpu_s(process) - spent) / sum(counts) for process, spent in zip(processes, before, strict=True)]
    return {"tokens_per_s": sum(counts) / seconds_taken, "cpu_s_per_token": used}


def cpu_s(process: psutil.Process) -> float:
    """Return the processor time that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def seconds(send: Send, new: int, count: int) -> float:
    """Return the median time of a request alone."""
    times = []
    for number in range(count + 2):
        started = time.perf_counter()
        send(f"Write {number}.", new)
        times.append(time.perf_counter() - started)
    return median(times[2:])


def cost(model: RubricModel, port: int, alone: int) -> dict[str, float]:
    """Return what HTTP adds to a request, and to an event of a stream."""
    client, direct = Client(port), direct_stream(model)
    events = sum(1 for _ in model.stream("Write 7.", max_new_tokens=64))
    one, one_direct = seconds(client.whole, 1, alone), seconds(direct, 1, alone)
    many, many_direct = seconds(client.stream, 64, alone), seconds(direct, 64, alone)
    return {
        "health": seconds(client.health, 0, alone),
        "request_http": one,
        "request_direct": one_direct,
        "request_cost": one - one_direct,
        "stream_http": many,
        "stream_direct": many_direct,
        "events_per_stream": events,
        "event_cost": (many - many_direct - (one - one_direct)) / events,
    }


def measure(
    bundle: Path, senders: int, requests: int, new: int, rounds: int, alone: int, threads: int | None
) -> dict[str, Any]:
    """Return all figures."""
    engine = {"draft": False, "keep_prompts": False, "max_concurrency": senders}
    with (
        RubricModel.open(bundle, threads=threads, **engine) as model,  # type: ignore[arg-type]
        served(bundle, senders, threads) as (port, server),
    ):
        this = psutil.Process()

        def clients(count: int = senders) -> list[Send]:  # new ones for each turn: the server closes idle connections
            return [Client(port).stream for _ in range(count)]

        direct = [direct_stream(model)] * senders
        turn(clients(), 1, 8)
        turn(direct, 1, 8)
        turns = [
            {
                "direct": turn(direct, requests, new, this),
                "http": turn(clients(), requests, new, server, this),
                "http_alone": turn(clients(1), requests, new, server, this),
            }
            for _ in range(rounds)
        ]
        ratios = [each["http"]["tokens_per_s"] / each["direct"]["tokens_per_s"] for each in turns]
        gains = [each["http"]["tokens_per_s"] / each["http_alone"]["tokens_per_s"] for each in turns]
        return {
            "bundle": {"name": model.description["name"], "weights": model.description["weights"]},
            "senders": senders,
            "requests_per_sender": requests,
            "max_new_tokens": new,
            "turns": turns,
            "ratio": ratios,
            "ratio_median": median(ratios),
            "times_one_after_another": gains,
            "times_one_after_another_median": median(gains),
            "alone": cost(model, port, alone),
            "versions": {name: version(name) for name in ("fastapi", "starlette", "uvicorn", "h11", "onnxruntime")},
            "machine": machine_facts(),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    for name, default in (("senders", 8), ("requests", 2), ("new", 128), ("rounds", 3), ("alone", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int)
    print(json.dumps(measure(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
