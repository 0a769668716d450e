#!/usr/bin/env python3
"""Ours with its drafts beside other systems with theirs: all write published rubrics, prompt state kept or not.

    rubric_rivals.py CHECKPOINT BUNDLE RUBRICS --name NAME --work FOLDER [--systems llama_cpp_python:q4_0,...]
                     [--template FILE] [--first 0] [--count 5] [--threads 2] [--environment SYSTEM=PYTHON ...]

Every step of every side is a real one. A side that drafts decides the rubric's tokens in place of its own, so that the
drafts are accepted which would be if the model had written this text; one that does not draft writes as many tokens of
its own, which takes it as long. RUBRICS and the template are as for whole_rubric.py. Ours has learned all other rubrics
of the file, never the one that it writes, and holds the text to the form of rubrics.

Each rubric is written twice by each side, from what the template fixes (`warm`: its state was made before) and from
nothing (`cold`); ours and the rival take turns, and the first of them changes with each rubric. Rivals get another
first token of the prompt each time, since some restore by themselves what they have seen. Times are whole: from the
prompt's ids to the rubric's last token. Results are kept in results/rubrics-NAME.json, rival by rival; a rival that is
there is not measured again while nothing changed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from contender import Contender, Server, is_drafting, make_contender
from measured_commit import measured_commit
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.whole_file import write_whole
from rubricrm_bench.machine_facts import machine_facts
from whole_rubric import Writer, read_rubrics

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SYSTEMS = "llama_cpp_python:q4_0-ngrams,openvino_llm:int4-128-f32-dq128-lookup,ort_genai:int4-128-ngrams"
# As in rivals.py: threads that have just worked spin for a while.
PAUSE_S = 0.5
_FIRST_ID = 100


class Scripts:
    """The rubrics of a file: prompts, texts, and ours writing them."""

    def __init__(self, writer: Writer, entries: Sequence[dict[str, Any]]) -> None:
        self._writer = writer
        self.names = [entry["id"] for entry in entries]
        self.prompts = [writer.prompt.encode_request(entry["request"]) for entry in entries]
        self.texts = [writer.tokenizer.encode(entry["rubric"]) for entry in entries]
        self.num_kept = len(writer.prefix.token_ids)
        self._asked = 0

    def write(self, number: int, *, is_cold: bool) -> dict[str, Any]:
        """Let ours write a rubric."""
        others = [text for index, text in enumerate(self.texts) if index != number]
        engine = self._writer.engine(self._writer.learned(others), is_cold=is_cold)
        done = self._writer.write(engine, self.prompts[number], self.texts[number])
        return {"seconds": done["seconds"], "drafts": [done["drafted"], done["accepted"]]}

    def ask(self, server: Server, number: int, *, is_cold: bool, follows: bool) -> dict[str, Any]:
        """Let a rival write a rubric, or as many tokens."""
        self._asked += 1
        text = self.texts[number]
        prompt = [_FIRST_ID + self._asked, *self.prompts[number][1:]]
        kept = 0 if is_cold else self.num_kept
        answer = server.ask(prompt, len(text), kept, text if follows else None)
        assert not follows or answer["tokens"] == text
        return {
            "seconds": answer["e2e_ms"] / 1000,
            "first_token_s": answer["ttft_ms"] / 1000,
            "drafts": answer["drafts"],
        }


def measure(scripts: Scripts, server: Server, numbers: Sequence[int], *, follows: bool) -> list[dict[str, Any]]:
    """Let both sides write each rubric, warm and cold, and return a row for each."""
    shortest = min(numbers, key=lambda number: len(scripts.texts[number]))
    scripts.ask(server, shortest, is_cold=False, follows=follows)  # kernels are made for shapes that first come
    scripts.write(shortest, is_cold=False)
    rows = []
    for turn, number in enumerate(numbers):
        for is_cold in (False, True):
            sides = {
                "ours": partial(scripts.write, number, is_cold=is_cold),
                "rival": partial(scripts.ask, server, number, is_cold=is_cold, follows=follows),
            }
            row: dict[str, Any] = {"rubric": scripts.names[number], "tokens": len(scripts.texts[number])}
            row |= {"prompt_tokens": len(scripts.prompts[number]), "start": "cold" if is_cold else "warm"}
            for side in list(sides) if turn % 2 else list(sides)[::-1]:
                time.sleep(PAUSE_S)
                row[side] = sides[side]()
            rows.append({**row, "times_ours": row["rival"]["seconds"] / row["ours"]["seconds"]})
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return, by start, how many times ours the rival took for all rubrics together, and the range of each alone."""
    found = {}
    for start in ("warm", "cold"):
        chosen = [row for row in rows if row["start"] == start]
        each = [row["times_ours"] for row in chosen]
        whole = {side: sum(row[side]["seconds"] for row in chosen) for side in ("ours", "rival")}
        found[start] = {
            "times_ours": whole["rival"] / whole["ours"],
            "median": median(each),
            "range": [min(each), max(each)],
        }
    return found


def facts_of(contender: Contender, server: Server, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is kept of a rival."""
    about = {"requirements": list(contender.requirements), "settings": contender.settings, "runs": server.runs}
    return {**about, "drafts": is_drafting(contender.name), "summary": summary(rows), "rows": rows}


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("rubrics", type=Path)
    parser.add_argument("--name", required=True, help="of the results")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--systems", default=SYSTEMS)
    parser.add_argument("--template", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--environment", action="append", default=[], type=lambda text: text.split("=", 1))
    options = parser.parse_args()
    commit, path = measured_commit(ROOT), RESULTS / f"rubrics-{options.name}.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("commit") != commit:
        kept = {"commit": commit, "machine": machine_facts(), "threads": options.threads, "rivals": {}}
    paths = {system: Path(python) for system, python in options.environment}
    names = [name for name in options.systems.split(",") if name not in kept["rivals"]]
    made = [make_contender(name, options.checkpoint, options.work, paths, commit) for name in names]
    template = options.template.read_text("utf-8") if options.template else None
    scripts = Scripts(Writer(options.bundle, options.threads, template), read_rubrics(options.rubrics))
    numbers = range(options.first, min(options.first + options.count, len(scripts.texts)))
    kept["restored_tokens"] = scripts.num_kept
    for contender in made:
        with contextlib.closing(Server(contender, options.threads, options.work)) as server:
            rows = measure(scripts, server, numbers, follows=is_drafting(contender.name))
            kept["rivals"][contender.name] = facts_of(contender, server, rows)
        write_whole(path, json.dumps(kept, indent=1) + "\n")
        print(contender.name, json.dumps(kept["rivals"][contender.name]["summary"], indent=1))


if __name__ == "__main__":
    main()
