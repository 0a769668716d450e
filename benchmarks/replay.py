#!/usr/bin/env python3
"""What speculative decoding would save on real rubrics, without the weights that wrote them.

    replay.py RUBRICS TOKENIZER [--most-drafts 4] [--cost 1,1.06,1.12,1.17] [--json]

RUBRICS is a JSONL file whose objects hold `rubric` (a text) and, where known, `prompt` or `request`; TOKENIZER a
tokenizer.json. A policy proposes tokens that may follow; a run of the model verifies them all at once, keeps those that
are the text's, and always gives one token more. Greedy decoding with such runs writes exactly the same text, so that
runs and their rows can be counted from the text alone. `--cost` is what a run of 1, 2, ... rows costs, in runs of one
row, as measured (docs/BENCHMARKING.md): fewer runs are a gain only as far as wider ones are cheap.

Policies: plain (a row a run) and n-gram drafting with 1 to k proposals (the tokens that followed the last occurrence of
the current n-gram, in the prompt or in the text so far; prompt lookup, Saxena 2023).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rubricrm.runtime.tokenizer import Tokenizer

LONGEST, SHORTEST = 4, 1


@dataclass(frozen=True)
class Replay:
    """What a policy needs for one or more texts.

    Attributes:
        rows: Rows of each run.
        tokens: That were written.
    """

    rows: tuple[int, ...]
    tokens: int

    def cost(self, costs: Sequence[float]) -> float:
        """Return the time of all runs, in runs of one row; wider ones than are listed cost as the last."""
        return sum(costs[min(rows, len(costs)) - 1] for rows in self.rows)


def replay(prompt: Sequence[int], text: Sequence[int], most_drafts: int) -> Replay:
    """Count the runs that write a text; the first token comes from the prefill."""
    known = list(prompt)
    rows = []
    position = 0
    while position < len(text):
        known.append(text[position])
        position += 1
        if position == len(text):
            break
        drafts = draft(known, min(most_drafts, len(text) - position))
        right = 0
        while right < len(drafts) and drafts[right] == text[position + right]:
            right += 1
        rows.append(1 + len(drafts))
        known += text[position : position + right]
        position += right
    return Replay(tuple(rows), len(text))


def draft(known: Sequence[int], most: int) -> list[int]:
    """Return what followed the last occurrence of the longest n-gram that ends the known tokens."""
    if most == 0:
        return []
    for length in range(LONGEST, SHORTEST - 1, -1):
        ending = known[-length:]
        for start in range(len(known) - length - 1, -1, -1):
            if known[start : start + length] == ending:
                return list(known[start + length : start + length + most])
    return []


def main() -> None:
    """Replay the rubrics of a file under each policy and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rubrics", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--most-drafts", type=int, default=4)
    parser.add_argument("--cost", default="1,1.06,1.12,1.17,1.4", help="Of runs of 1, 2, ... rows.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    costs = [float(cost) for cost in options.cost.split(",")]
    tokenizer = Tokenizer.from_file(options.tokenizer)
    entries = [json.loads(line) for line in options.rubrics.read_text("utf-8").splitlines() if line.strip()]
    texts = [
        (tokenizer.encode(entry.get("prompt") or entry.get("request") or ""), tokenizer.encode(entry["rubric"]))
        for entry in entries
    ]
    found = {}
    for most in range(options.most_drafts + 1):
        runs = [replay(prompt, text, most) for prompt, text in texts]
        total = Replay(tuple(rows for run in runs for rows in run.rows), sum(run.tokens for run in runs))
        found["plain" if most == 0 else f"n-gram, {most}"] = {
            "runs": len(total.rows),
            "rows_a_run": sum(total.rows) / len(total.rows),
            "tokens_a_run": (total.tokens - len(runs)) / len(total.rows),
            "cost": total.cost(costs),
        }
    plain = found["plain"]["cost"]
    for figures in found.values():
        figures["times_as_fast"] = plain / figures["cost"]
    if options.json:
        print(json.dumps({"texts": len(texts), "costs": costs, "policies": found}, indent=2))
        return
    print(f"{len(texts)} texts, {sum(len(text) for _, text in texts)} tokens")
    for name, figures in found.items():
        print(
            f"{name:12} {figures['runs']:7} runs, {figures['rows_a_run']:.2f} rows and {figures['tokens_a_run']:.2f} "
            f"tokens a run: {figures['times_as_fast']:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
