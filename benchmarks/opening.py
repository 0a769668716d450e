#!/usr/bin/env python3
"""What opening a bundle costs: time and memory of each part, the first token of a new process, and two processes.

    opening.py BUNDLE [--prompt-tokens 366] [--processes 5] [--threads 2] [--json FILE]

Every figure is of a new process, on a warm page cache, after a first opening that filled the cache directory. A process
opens the parts one after another and reads the anonymous memory after each, or calls `RubricModel.open`, imports
included, and answers a prompt of `--prompt-tokens` tokens with one token; the clock begins before the process is
started. Then two such processes are open at once. Times and sizes are [median, least, most]. Linux alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm.runtime.whole_file import write_whole
from rubricrm_bench.machine_facts import machine_facts

WORKER = Path(__file__).with_name("opening_worker.py")
PAUSE_S = 0.3
WHOLE = ("open_ms", "anonymous_mb", "prefill_ms", "first_token_ms", "beyond_prefill_ms", "pss_mb")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--prompt-tokens", type=int, default=366)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    bundle = Bundle.open(options.bundle.resolve())
    arguments = [str(bundle.path), str(options.threads), request_of(bundle, options.prompt_tokens)]
    with Worker.started("whole", arguments) as first:
        facts = {name: first.figures[name] for name in ("model", "prompt_tokens", "cached_prompt_tokens")}
    report = {"num_bytes": sum(file.size for file in bundle.manifest.files.values()), "threads": options.threads}
    report |= {"machine": machine_facts()} | facts | measure(arguments, options.processes)
    text = json.dumps(report, indent=2) + "\n"
    if options.json is not None:
        write_whole(options.json, text)
    sys.stdout.write(text)


def request_of(bundle: Bundle, num_tokens: int) -> str:
    """Return a request whose whole prompt has so many tokens."""
    facts = bundle.manifest
    prompt = Prompt(facts.prompt, facts.chat, Tokenizer.from_file(bundle.file(facts.tokenizer.file)))
    requests = ("Write" + " rain" * words for words in range(1, num_tokens))
    found = next((text for text in requests if len(prompt.encode_request(text)) == num_tokens), None)
    if found is None:
        raise SystemExit(f"{bundle.path}: no request gives a prompt of {num_tokens} tokens.")
    return found


def measure(arguments: Sequence[str], count: int) -> dict[str, Any]:
    """Run both kinds of process in turns, then two at once."""
    parts, whole = [], []
    for _ in range(count):
        with Worker.started("parts", arguments) as worker:
            parts.append(worker.figures["parts"])
        with Worker.started("whole", arguments) as worker:
            whole.append(worker.figures)
    with Worker.started("whole", arguments) as one, Worker.started("whole", arguments) as other:
        together = [round(worker.ask()["pss_mb"], 1) for worker in (one, other)]
    return {
        "parts": [
            {"name": same[0]["name"]} | {key: middle([row[key] for row in same]) for key in ("ms", "anonymous_mb")}
            for same in zip(*parts, strict=True)
        ],
        "whole": {name: middle([row[name] for row in whole]) for name in WHOLE},
        "two_processes_pss_mb": together,
    }


def middle(values: Sequence[float]) -> list[float]:
    """Return median, least and most."""
    return [round(value, 1) for value in (median(values), min(values), max(values))]


class Worker:
    """A process of opening_worker.py, and the figures that it printed."""

    def __init__(self, process: subprocess.Popen[str], started: float) -> None:
        self._process = process
        self.figures = self._read()
        if "first_token_at" in self.figures:
            # The monotonic clock is the machine's: it is the same in both processes.
            self.figures["first_token_ms"] = 1e3 * (self.figures["first_token_at"] - started)
            self.figures["beyond_prefill_ms"] = self.figures["first_token_ms"] - self.figures["prefill_ms"]

    @classmethod
    @contextmanager
    def started(cls, kind: str, arguments: Sequence[str]) -> Iterator[Worker]:
        """Start one; it lives until the block ends."""
        time.sleep(PAUSE_S)
        started = time.monotonic()
        command = [sys.executable, str(WORKER), kind, *arguments]
        # The bytecode of this package is there, as where it is installed: the first process has written it.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
            yield cls(process, started)
            process.communicate()

    def ask(self) -> dict[str, Any]:
        """Return its memory now."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("opening_worker.py failed; it says why above.")
        found: dict[str, Any] = json.loads(line)
        return found


if __name__ == "__main__":
    main()
