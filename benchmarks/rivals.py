#!/usr/bin/env python3
"""Ours beside what people would use instead: the same checkpoint, the same ids, as many tokens, as many threads.

    rivals.py CHECKPOINT --name NAME --work FOLDER [--systems ort_genai:int4-32,...] [--shapes 390/200,64/64,300+90/200]
              [--ours ours:int4-128] [--referee transformers_bf16:bf16] [--openings 2] [--rounds 2] [--threads 2]
              [--environment SYSTEM=PYTHON ...]

Each system is a file in systems/ with its pins; it gets a virtual environment of its own under FOLDER, once, and is
asked over a pipe. A rival runs beside ours: both stay open, and answer in turns, A B then B A, the same prompt, another
one in each turn. Ratios are of pairs. Then both are opened again: for as long as it lives a process may be some percent
faster or slower than another of the same files. In a shape, `300+90/200` are 300 prompt tokens whose state both sides
kept from before, 90 others and 200 new tokens.

Before it is timed, each side names the first token after 24 prompts; the referee, the checkpoint in its own floats,
says whether that is among the best thousandth of all tokens: a side that names too few of them computes another model,
and is not ranked. A system that cannot be installed, converted or run has its error. Everything is kept in
results/rivals-NAME/COMMIT.json contender by contender; a shape that is there is not measured again. COMMIT is the last
one that changed what is measured, and ours is installed and exported again for each. measured.py writes the tables into
the documents.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contender import Contender, Server, SystemFailedError, is_drafting, known_contenders, make_contender, model_of
from measured_commit import measured_commit
from rivals_table import table
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.whole_file import write_whole
from rubricrm_bench.machine_facts import machine_facts
from rubricrm_bench.rival_rows import TIMES

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# Threads of a runtime spin for a while after their work: the side that has just answered would slow the other down.
PAUSE_S = 0.5
_FIRST_ID = 100  # below and at the end of a vocabulary are bytes and control tokens
_NUM_CHECKED, _CHECKED_IDS = 24, 16
_WARMUP_TOKENS = 4


def prompt_of(num_ids: int, length: int, seed: int = 0) -> list[int]:
    """Return ids that look random and are the same everywhere."""
    return [_FIRST_ID + (7919 * n + 104729 * seed * (n + 1)) % (num_ids - 2 * _FIRST_ID) for n in range(length)]


def checked_prompts(num_ids: int) -> list[list[int]]:
    """Return the prompts whose first answered token is checked."""
    return [prompt_of(num_ids, _CHECKED_IDS, seed) for seed in range(1, _NUM_CHECKED + 1)]


def measure(sides: dict[str, Server], shape: str, num_ids: int, rounds: int) -> dict[str, Any]:
    """Let two sides answer in turns and return the times of each, by its name.

    Raises:
        SystemFailedError: One of them failed.
    """
    prompt, _, new = shape.partition("/")
    parts, new_tokens = [int(part) for part in prompt.split("+")], int(new)
    kept = parts[0] if len(parts) > 1 else 0
    begin = prompt_of(num_ids, kept)
    found: dict[str, Any] = {name: {"ttft_ms": [], "tpot_ms": [], "peak_rss_bytes": 0} for name in sides}
    for turn in range(rounds + 1):
        # Another prompt in each turn: some systems restore by themselves what they have seen.
        ids = begin + prompt_of(num_ids, sum(parts) - kept, turn)
        for name in list(sides) if turn % 2 else list(sides)[::-1]:
            time.sleep(PAUSE_S)
            if turn == 0:
                sides[name].ask(ids, _WARMUP_TOKENS, kept)
                continue
            answer = sides[name].ask(ids, new_tokens, kept)
            found[name]["peak_rss_bytes"] = answer["peak_rss_bytes"]
            found[name]["ttft_ms"].append(answer["ttft_ms"])
            found[name]["tpot_ms"].append((answer["e2e_ms"] - answer["ttft_ms"]) / (new_tokens - 1))
    return found


def joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what several openings found as one row."""
    return {
        side: {
            **{key: [value for row in rows for value in row[side][key]] for key in TIMES},
            "peak_rss_bytes": max(row[side]["peak_rss_bytes"] for row in rows),
        }
        for side in rows[0]
    }


class Comparison:
    """All that was measured, and the file that keeps it."""

    def __init__(self, options: argparse.Namespace, commit: str) -> None:
        self._options, self._commit = options, commit
        self._paths = {system: Path(python) for system, python in options.environment}
        self._num_ids: int = json.loads((options.checkpoint / "config.json").read_text())["vocab_size"]
        self._path = RESULTS / f"rivals-{options.name}" / f"{commit}.json"
        self.found: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        basis = {key: getattr(options, key) for key in ("ours", "referee", "threads")}
        if self.found and {key: self.found.get(key) for key in basis} != basis:
            raise SystemExit(f"{self._path}: was measured with other options. Pass those, or another --name.")
        self.found |= {**basis, "checkpoint": options.checkpoint.name, "machine": machine_facts(), "commit": commit}
        self.found.setdefault("began", datetime.now(UTC).isoformat(timespec="seconds"))
        self.found.setdefault("contenders", {})

    def run(self) -> None:
        """Make everything first, since converters take memory; then measure each contender beside ours."""
        names = [self._options.ours, *(name for name in self._options.systems if self._missing(name))]
        made = {name: made for name in names if (made := self._make(name)) is not None}
        if (own := made.pop(self._options.ours, None)) is None:
            raise SystemExit(f"ours: {self.found['contenders'][self._options.ours]['error']}")
        self._ask_referee()
        self._facts(own.name)  # the first of the file
        for contender in made.values():
            self._beside(own, contender)
            self._keep()

    def _missing(self, name: str) -> list[str]:
        """Return the shapes that are not measured yet."""
        shapes = self.found["contenders"].get(name, {}).get("shapes", {})
        return [shape for shape in self._options.shapes if "error" in shapes.get(shape, {"error": None})]

    def _contender(self, name: str) -> Contender:
        return make_contender(name, self._options.checkpoint, self._options.work, self._paths, self._commit)

    def _make(self, name: str) -> Contender | None:
        try:
            return self._contender(name)
        except SystemFailedError as error:
            self._facts(name)["error"] = str(error)
            self._keep()
            return None

    def _facts(self, name: str) -> dict[str, Any]:
        """Return what is kept of a contender."""
        facts: dict[str, Any] = self.found["contenders"].setdefault(name, {"error": None, "shapes": {}})
        return facts

    def _ask_referee(self) -> None:
        """Find the best tokens of the checkpoint's own floats, with nothing else open."""
        if "best" in self.found:
            return
        contender = self._contender(self._options.referee)
        with contextlib.closing(Server(contender, self._options.threads, self._options.work)) as referee:
            count = max(1, self._num_ids // 1000)
            self.found["best"] = [referee.best(prompt, count) for prompt in checked_prompts(self._num_ids)]
        self._keep()

    def _introduce(self, contender: Contender, server: Server) -> None:
        """Note what a contender is and how often it agrees with the referee."""
        named = [server.ask(prompt, 1)["tokens"][0] for prompt in checked_prompts(self._num_ids)]
        pairs = list(zip(named, self.found["best"], strict=True))
        facts = self._facts(contender.name)
        facts |= {
            "error": None,
            "requirements": list(contender.requirements),
            "settings": contender.settings,
            "runs": server.runs,
            "num_bytes": contender.num_bytes,
            "load_ms": server.load_ms,
            "agreement": sum(token in best for token, best in pairs) / _NUM_CHECKED,
            "same_first": sum(token == best[0] for token, best in pairs) / _NUM_CHECKED,
        }

    def _beside(self, own: Contender, contender: Contender) -> None:
        """Measure all shapes that are missing, in each opening of both."""
        rows: dict[str, list[dict[str, Any]]] = {shape: [] for shape in self._missing(contender.name)}
        facts = self._facts(contender.name)
        try:
            for opening in range(self._options.openings):
                with self._opened(own, contender, ours_first=opening % 2 == 0) as sides:
                    if opening == 0:
                        self._introduce(own, sides["ours"])
                        self._introduce(contender, sides["rival"])
                    for shape in list(rows):
                        try:
                            rows[shape].append(measure(sides, shape, self._num_ids, self._options.rounds))
                        except SystemFailedError as error:
                            facts["shapes"][shape] = {"error": str(error)}
                            del rows[shape]
                print(f"{contender.name}: opening {opening + 1} of {self._options.openings} measured", file=sys.stderr)
            facts["shapes"] |= {shape: joined(found) for shape, found in rows.items()}
        except SystemFailedError as error:
            facts["error"] = str(error)

    @contextlib.contextmanager
    def _opened(self, own: Contender, rival: Contender, *, ours_first: bool) -> Iterator[dict[str, Server]]:
        contenders = {"ours": own, "rival": rival}
        with contextlib.ExitStack() as stack:
            sides = {}
            for side in ("ours", "rival") if ours_first else ("rival", "ours"):
                try:
                    server = Server(contenders[side], self._options.threads, self._options.work)
                except SystemFailedError as error:
                    if side == "ours":
                        raise SystemExit(f"ours: {error}") from error
                    raise
                sides[side] = stack.enter_context(contextlib.closing(server))
            yield {side: sides[side] for side in contenders}

    def _keep(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, json.dumps(self.found, indent=2) + "\n")


def default_systems(ours: str) -> list[str]:
    """Return all others, and what else runs the bundle of `ours`: without our kernels, or with other instructions.

    Those that draft have a measurement of their own (rubric_rivals.py): what they gain depends on the text.
    """
    own = ours.partition(":")[0]
    others = [name for name in known_contenders() if name != ours and not is_drafting(name)]
    return [name for name in others if name.partition(":")[0] != own or model_of(name) == ours]


def main() -> None:
    """Measure, keep and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--name", required=True, help="of the results")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--ours", default="ours:int4-128")
    parser.add_argument("--referee", default="transformers_bf16:bf16")
    parser.add_argument("--systems", type=lambda text: text.split(","), help="default: all but our other exports")
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=["390/200", "64/64", "300+90/200"])
    parser.add_argument("--openings", type=int, default=2, help="of both processes")
    parser.add_argument("--rounds", type=int, default=2, help="counted pairs of each opening")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--environment", action="append", default=[], type=lambda text: text.split("=", 1))
    options = parser.parse_args()
    options.systems = options.systems or default_systems(options.ours)
    comparison = Comparison(options, measured_commit(ROOT))
    try:
        comparison.run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        print(table(comparison.found))


if __name__ == "__main__":
    main()
