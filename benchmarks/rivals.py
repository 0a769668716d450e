#!/usr/bin/env python3
"""Ours beside what people would use instead: the same checkpoint, the same ids, as many tokens, as many threads.

    rivals.py CHECKPOINT --work FOLDER [--ours int4-128] [--systems ort_genai:int4-32,...] [--shapes 390/200,64/64]
              [--rounds 5] [--threads 2] [--environment SYSTEM=PYTHON ...] [--json OUT]

Each system is a file in systems/ with its pins; it gets a virtual environment of its own under FOLDER, once, and is
asked over a pipe. A rival runs beside ours: both stay open, and answer in turns, A B then B A. Ratios are of pairs;
medians and the range are printed. A system that cannot be installed, converted or run has a row with its error.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SYSTEMS = Path(__file__).resolve().parent / "systems"
OURS = "ours"
sys.path.insert(0, str(SYSTEMS))  # the systems import their protocol as a neighbor: each also runs alone
_LAST_LINES = 3
# Threads of a runtime spin for a while after their work: the side that has just answered would slow the other down.
_PAUSE_S = 0.5
_FIRST_ID = 100  # below and at the end of a vocabulary are bytes and control tokens


class SystemFailedError(Exception):
    """A system cannot be installed, converted or run."""


@dataclass(frozen=True)
class Contender:
    """A system with one of its settings.

    Attributes:
        system: Name of its file.
        variant: Of its settings.
        python: Interpreter of its environment.
        directory: What it made of the checkpoint.
    """

    system: str
    variant: str
    python: Path
    directory: Path

    @property
    def name(self) -> str:
        """System and settings."""
        return f"{self.system} {self.variant}"


@dataclass
class Row:
    """A contender and a shape."""

    name: str
    shape: str
    error: str | None = None
    ttft_ms: list[float] = field(default_factory=list)
    tpot_ms: list[float] = field(default_factory=list)
    ttft_ratio: list[float] = field(default_factory=list)
    tpot_ratio: list[float] = field(default_factory=list)
    load_ms: float | None = None
    peak_rss_bytes: int | None = None
    num_bytes: int | None = None
    shared_tokens: int | None = None


class Server:
    """A contender's process."""

    def __init__(self, contender: Contender, threads: int, log: Path) -> None:
        script = SYSTEMS / f"{contender.system}.py"
        words = [contender.python, script, "serve", contender.directory, contender.variant, str(threads)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        self._log = log
        with log.open("w") as stream:
            self._process = subprocess.Popen(
                words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, text=True
            )
        try:
            self.load_ms: float = self._read()["load_ms"]
        except SystemFailedError:
            self.close()
            raise

    def ask(self, ids: list[int], new_tokens: int) -> dict[str, Any]:
        """Let it generate."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it said is read below
            self._process.stdin.write(json.dumps({"ids": ids, "new_tokens": new_tokens}) + "\n")
            self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemFailedError(f"exit code {self._process.wait()}: {_end_of(self._log)}")
        found: dict[str, Any] = json.loads(line)
        return found


def make_contender(name: str, checkpoint: Path, work: Path, environments: dict[str, Path]) -> Contender:
    """Install a system and convert the checkpoint, unless that was done."""
    system, _, variant = name.partition(":")
    facts = _load(system)
    if variant not in facts.VARIANTS:
        raise SystemExit(f"{system} has the variants {', '.join(facts.VARIANTS)}, got {variant!r}")
    python = environments.get(system) or _install(system, facts.REQUIREMENTS, work)
    directory = work / "models" / f"{system}-{variant}"
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        making = directory.with_name(f"{directory.name}.making")
        shutil.rmtree(making, ignore_errors=True)  # of a run that was interrupted
        words = [python, SYSTEMS / f"{system}.py", "prepare", checkpoint, making, variant]
        _run([str(word) for word in words], work / f"prepare-{system}-{variant}.log")
        making.rename(directory)
    return Contender(system, variant, python, directory)


def _load(system: str) -> Any:
    path = SYSTEMS / f"{system}.py"
    spec = importlib.util.spec_from_file_location(f"systems_{system}", path)
    if spec is None or spec.loader is None or not path.is_file():
        known = sorted(file.stem for file in SYSTEMS.glob("*.py") if file.stem != "protocol")
        raise SystemExit(f"no system {system!r}; there are {', '.join(known)}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _install(system: str, requirements: tuple[str, ...], work: Path) -> Path:
    environment = work / "environments" / system
    python, done = environment / "bin" / "python", environment / "installed"
    if not done.is_file():
        log = work / f"install-{system}.log"
        _run([sys.executable, "-m", "venv", str(environment)], log)
        words = [requirement.format(root=ROOT) for requirement in requirements]
        _run([str(python), "-m", "pip", "install", "--quiet", *words], log)
        done.touch()
    return python


def _run(words: list[str], log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        code = subprocess.run(words, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise SystemFailedError(f"exit code {code}: {_end_of(log)}")


def _end_of(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-_LAST_LINES:]) or "no message"


def measure(ours: Server, rival: Server, rows: tuple[Row, Row], num_ids: int, rounds: int) -> None:
    """Fill the rows of a shape."""
    own, other = rows
    prompt, new = map(int, own.shape.split("/"))
    ids = [_FIRST_ID + (7919 * n) % (num_ids - 2 * _FIRST_ID) for n in range(prompt)]
    for turn in range(rounds + 1):
        order = [(ours, own), (rival, other)] if turn % 2 == 0 else [(rival, other), (ours, own)]
        found = {}
        for server, row in order:
            time.sleep(_PAUSE_S)
            answer = server.ask(ids, new)
            found[row.name] = answer
            row.peak_rss_bytes = answer["peak_rss_bytes"]
            if turn > 0:  # the first answers warm up
                row.ttft_ms.append(answer["ttft_ms"])
                row.tpot_ms.append((answer["e2e_ms"] - answer["ttft_ms"]) / (new - 1))
        if turn > 0:
            other.ttft_ratio.append(other.ttft_ms[-1] / own.ttft_ms[-1])
            other.tpot_ratio.append(other.tpot_ms[-1] / own.tpot_ms[-1])
            pairs = zip(found[own.name]["tokens"], found[other.name]["tokens"], strict=True)
            other.shared_tokens = next((n for n, (a, b) in enumerate(pairs) if a != b), new)


def run(options: argparse.Namespace) -> list[Row]:
    """Measure every contender beside ours."""
    environments = dict(pair.split("=", 1) for pair in options.environment)
    paths = {system: Path(python) for system, python in environments.items()}
    num_ids = json.loads((options.checkpoint / "config.json").read_text())["vocab_size"]
    own = make_contender(f"{OURS}:{options.ours}", options.checkpoint, options.work, paths)
    rows: list[Row] = []
    contenders = []
    for name in options.systems:  # before ours is open: converters take memory
        try:
            contenders.append(make_contender(name, options.checkpoint, options.work, paths))
        except SystemFailedError as error:
            rows += [Row(name.replace(":", " "), shape, error=str(error)) for shape in options.shapes]
    with contextlib.closing(Server(own, options.threads, options.work / "serve-ours.log")) as ours:
        for contender in contenders:
            try:
                rival = Server(contender, options.threads, options.work / f"serve-{contender.directory.name}.log")
            except SystemFailedError as error:
                rows += [Row(contender.name, shape, error=str(error)) for shape in options.shapes]
                continue
            with contextlib.closing(rival):
                for shape in options.shapes:
                    pair = _row(own, ours, shape), _row(contender, rival, shape)
                    try:
                        measure(ours, rival, pair, num_ids, options.rounds)
                    except SystemFailedError as error:
                        pair[1].error = str(error)
                    rows += pair
    return rows


def _row(contender: Contender, server: Server, shape: str) -> Row:
    return Row(contender.name, shape, load_ms=server.load_ms, num_bytes=_size(contender.directory))


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def to_markdown(rows: list[Row]) -> str:
    """Return the table: medians, and for ratios the range too."""
    lines = [
        "| system | prompt/new | first token ms | ms a token | times our first token | times our ms a token | GB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if row.error:
            lines.append(f"| {row.name} | {row.shape} | failed: {row.error} | | | | |")
            continue
        size = "" if row.num_bytes is None else f"{row.num_bytes / 1e9:.2f}"
        if not row.ttft_ms:  # ours, beside a rival that failed at once
            continue
        cells = [row.name, row.shape, f"{statistics.median(row.ttft_ms):.0f}", f"{statistics.median(row.tpot_ms):.1f}"]
        cells += [_ratio(row.ttft_ratio), _ratio(row.tpot_ratio), size]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ratio(ratios: list[float]) -> str:
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--ours", default="int4-128")
    parser.add_argument("--systems", type=lambda text: text.split(","), default=["ort_genai:int4-32"])
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=["390/200", "64/64"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--environment", action="append", default=[], metavar="SYSTEM=PYTHON")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = run(options)
    if options.json is not None:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=2) + "\n")
    print(to_markdown(rows))


if __name__ == "__main__":
    main()
