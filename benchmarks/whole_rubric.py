#!/usr/bin/env python3
"""What drafting gives on a real engine: published rubrics are written by a model that would write something else.

    whole_rubric.py BUNDLE RUBRICS [--template FILE] [--count 3] [--first 0] [--threads 2]

Every step is a real one; only the tokens that it decides are those of the rubric, so that a model of random weights
writes it too. RUBRICS and the template are as for replay.py; without one, it is the bundle's. Each rubric is written
without drafts, with an empty table of phrases, and with a table that has learned all other rubrics of the file and
never this one; as many random tokens, which nothing can foresee, are written without drafts and with that table. What
the template fixes of a prompt is restored on all sides, which take turns in one process. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rubricrm.generation import decision
from rubricrm.generation.draft_desk import DraftDesk
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.grammar import REFUSED, Grammar
from rubricrm.generation.grammar_compiler import compile_grammar
from rubricrm.generation.item_number import ItemNumbers
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.phrase_table import PhraseTable
from rubricrm.generation.sampling import choose
from rubricrm.generation.sequence import Sequence as Generation
from rubricrm.generation.step_cost import measure_step_cost, step_runner
from rubricrm.rubric.form import regex
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.prefix import Prefix, compute_prefix
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_bench.machine_facts import machine_facts


class Script:
    """Decides the tokens of a text in place of the model's choice, whose costs are still paid."""

    def __init__(self) -> None:
        self.token_ids: Sequence[int] = ()

    def next_token(self, sequence: Generation, row: Any, num_tokens: int, _: object) -> int:
        """In place of what chooses a token in `rubricrm.generation.decision`."""
        index = len(sequence.token_ids)
        choose(row[:num_tokens], sequence.options, sequence.seed, index)
        if index == len(self.token_ids):
            sequence.finish("stop")
            return -1
        token_id = self.token_ids[index]
        if (constraint := sequence.constraint) is not None:
            constraint.state = constraint.grammar.next(constraint.state, token_id)
            if constraint.state == REFUSED:
                sequence.constraint = None
        sequence.push(token_id, None)
        return token_id


class Writer:
    """One session, and engines of several kinds on it.

    Args:
        path: Of the bundle.
        threads: Of the session.
        template: What a request is put into, with `{prompt}` in it; None: the bundle's.
    """

    def __init__(self, path: Path, threads: int, template: str | None = None) -> None:
        self.bundle = Bundle.open(path)
        manifest = self.bundle.manifest
        self.tokenizer = Tokenizer.from_file(self.bundle.file(manifest.tokenizer.file))
        self.session = Session(self.bundle, threads=threads)
        self.numbers = ItemNumbers(self.tokenizer)
        self.grammar: Grammar = compile_grammar(regex(), self.tokenizer, manifest.prompt.stop_ids)
        facts = manifest.prompt
        if template is not None:
            facts = dataclasses.replace(facts, template=template)
        self.prompt = Prompt(facts, manifest.chat, self.tokenizer)
        self.prefix: Prefix = compute_prefix(self.session, self.prompt.fixed_prefix())
        self.cost = measure_step_cost(step_runner(self.session, self.prefix))
        self.script = Script()
        decision._next_token = self.script.next_token

    def engine(self, phrases: PhraseTable | None, *, is_cold: bool = False) -> Engine:
        """Return an engine that drafts with a table of phrases, or not at all; a cold one restores nothing."""
        desk = None if phrases is None else DraftDesk(self.cost, self.numbers, phrases)
        options = EngineOptions(max_concurrency=1, keep_prompts=False)
        prefix = None if is_cold else self.prefix
        return Engine(self.session, self.bundle.manifest, prefix, options, grammar=self.grammar, drafts=desk)

    def learned(self, texts: Sequence[Sequence[int]]) -> PhraseTable:
        table = PhraseTable(self.numbers)
        for token_ids in texts:
            table.learn(token_ids)
        return table

    def write(self, engine: Engine, prompt: Sequence[int], token_ids: Sequence[int]) -> dict[str, float]:
        """Write a text after a prompt; return how long it took, and what was drafted."""
        self.script.token_ids = token_ids
        options = GenerationOptions(max_new_tokens=len(token_ids) + 2, stop_on_repetition=False)
        started = time.perf_counter()
        sequence = engine.submit(list(prompt), options, is_rubric=True)
        sequence.wait()
        sequence.raise_error()
        seconds = time.perf_counter() - started
        assert sequence.token_ids == list(token_ids)
        prefilled = (sequence.prefilled or started) - started
        return {
            "seconds": seconds,
            "prefill_seconds": prefilled,
            "tokens": len(token_ids),
            "drafted": sequence.drafted_tokens,
            "accepted": sequence.accepted_tokens,
            "kept_the_form": sequence.constraint is not None,
        }


def read_rubrics(path: Path) -> list[dict[str, Any]]:
    """Return the whole rubrics of a file with what was requested; single items are left out."""
    entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [entry for entry in entries if entry.get("kind", "full") == "full"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("rubrics", type=Path)
    parser.add_argument("--template", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cores())
    options = parser.parse_args()
    entries = read_rubrics(options.rubrics)
    template = options.template.read_text("utf-8") if options.template else None
    writer = Writer(options.bundle, options.threads, template)
    texts = [writer.tokenizer.encode(entry["rubric"]) for entry in entries]
    found, num_tokens = [], writer.bundle.manifest.tokenizer.num_tokens
    for number in range(options.first, min(options.first + options.count, len(texts))):
        prompt = writer.prompt.encode_request(entries[number]["request"])
        others = [token_ids for index, token_ids in enumerate(texts) if index != number]
        noise = np.random.default_rng(number).integers(1000, num_tokens * 2 // 3, len(texts[number])).tolist()
        sides = {
            "plain": (None, texts[number]),
            "empty_table": (writer.learned([]), texts[number]),
            "leave_one_out": (writer.learned(others), texts[number]),
            "random_plain": (None, noise),
            "random_drafted": (writer.learned(others), noise),
        }
        row: dict[str, Any] = {"rubric": entries[number].get("id", number), "prompt_tokens": len(prompt)}
        for side, (phrases, token_ids) in sides.items():
            row[side] = writer.write(writer.engine(phrases), prompt, token_ids)
        row["times_plain"] = {
            side: row["random_plain" if side == "random_drafted" else "plain"]["seconds"] / row[side]["seconds"]
            for side in ("empty_table", "leave_one_out", "random_drafted")
        }
        found.append(row)
    medians = {side: median(row["times_plain"][side] for row in found) for side in found[0]["times_plain"]}
    cost = {str(rows): seconds for rows, seconds in writer.cost.measured.items()}
    report = {"machine": machine_facts(), "restored_tokens": len(writer.prefix.token_ids), "cost": cost}
    print(json.dumps({**report, "rubrics": found, "medians": medians}, indent=1))


if __name__ == "__main__":
    main()
