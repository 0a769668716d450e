#!/usr/bin/env python3
"""What drafting saves on real rubrics, without the weights that wrote them.

    replay.py RUBRICS TOKENIZER [--template FILE] [--cost 1,1.16,...|STEPS.json] [--most-rows 8] [--json]

RUBRICS is a JSONL file whose objects hold `rubric` (a text) and, where known, `prompt` or `request`; TOKENIZER a
tokenizer.json; the template a text with `{prompt}` in it, for prompts that are not given whole. Greedy decoding with
drafts writes exactly the same text, so that steps and their rows can be counted from the text alone. The SDK's own
drafting decides what is drafted and how many rows are worth it. What a step of so many rows takes is given by `--cost`:
the times of 1, 2, ... rows, or a result file of step_rows.py.

Each text is replayed with an empty table of phrases, and with a table that has learned all other texts of the file and
never this one (leave one out). With that table, as many random tokens of these texts are replayed, which nothing can
foresee.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rubricrm.generation.acceptance import source_of
from rubricrm.generation.draft_plan import plan_drafts
from rubricrm.generation.drafting import Drafter
from rubricrm.generation.item_number import ItemNumbers
from rubricrm.generation.phrase_table import PhraseTable
from rubricrm.generation.step_cost import StepCost
from rubricrm.runtime.prompt import common_prefix
from rubricrm.runtime.tokenizer import Tokenizer

SEED = 20261127
RANDOM_TOKENS = 400


@dataclass
class Replay:
    """What one or more texts took.

    Attributes:
        rows: Rows of each step.
        tokens: Written after the first one, which comes from the prefill.
        seconds: Of all steps.
        plain_seconds: Of one step per token.
        drafted: Tokens that were verified, by source; those after a refused one were not.
        accepted: Those that came true.
        propose_s: How long each proposal took on this machine.
    """

    rows: list[int] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    plain_seconds: float = 0.0
    drafted: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    propose_s: list[float] = field(default_factory=list)

    @property
    def times_as_fast(self) -> float:
        """Return the speed over that of plain decoding."""
        return self.plain_seconds / self.seconds if self.seconds else 1.0

    def figures(self) -> dict[str, Any]:
        """Return what is reported."""
        return {
            "tokens": self.tokens,
            "steps": len(self.rows),
            "rows_per_step": statistics.fmean(self.rows),
            "tokens_per_step": self.tokens / len(self.rows),
            "times_as_fast": self.times_as_fast,
            "acceptance": {name: [self.accepted[name], self.drafted[name]] for name in sorted(self.drafted)},
            "propose_us": {
                "median": statistics.median(self.propose_s) * 1e6,
                "p99": sorted(self.propose_s)[int(len(self.propose_s) * 0.99)] * 1e6,
            },
        }

    def __add__(self, other: Replay) -> Replay:
        return Replay(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.seconds + other.seconds,
            self.plain_seconds + other.plain_seconds,
            self.drafted + other.drafted,
            self.accepted + other.accepted,
            self.propose_s + other.propose_s,
        )


def replay(drafter: Drafter, text: Sequence[int], cost: StepCost, most_rows: int) -> Replay:
    """Write a text as the engine does, one sequence alone: the model is replaced by the text itself."""
    found = Replay()
    for token_id in text[:1]:
        drafter.push(token_id)
    position = 1
    while position < len(text):
        started = time.perf_counter()
        draft = drafter.propose(min(most_rows - 1, len(text) - position - 1))
        found.propose_s.append(time.perf_counter() - started)
        plan = plan_drafts([draft], [drafter.credit.tokens], cost, most_rows - 1)
        length = plan.lengths[0]
        decided = text[position : position + length + 1]
        right = common_prefix(draft.token_ids[:length], decided)
        drafter.settle(draft, length, right, plan.prices[0])
        for token_id in decided[: right + 1]:
            drafter.push(token_id)
        position += right + 1
        names = [source_of(of_grade).name.lower() for of_grade in draft.grades[: min(length, right + 1)]]
        found.drafted.update(names)
        found.accepted.update(names[:right])
        found.rows.append(1 + length)
        found.tokens += right + 1
        found.seconds += cost.seconds(1 + length)
        found.plain_seconds += cost.seconds(1) * (right + 1)
    return found


def replays(
    texts: Sequence[tuple[list[int], list[int]]], numbers: ItemNumbers, cost: StepCost, most_rows: int
) -> dict[str, list[Replay]]:
    """Return the replays of all texts in each of the three ways."""
    found: dict[str, list[Replay]] = {"empty table": [], "leave one out": [], "random tokens": []}
    draw = random.Random(SEED)
    known = sorted({token_id for _, text in texts for token_id in text})
    for index, (prompt, text) in enumerate(texts):
        others = PhraseTable(numbers)
        for other, (_, learned) in enumerate(texts):
            # A text that stands in the file twice is not another one.
            if other != index and learned != text:
                others.learn(learned)
        unforeseen = draw.choices(known, k=RANDOM_TOKENS)
        found["empty table"].append(replay(Drafter(prompt, numbers, PhraseTable(numbers)), text, cost, most_rows))
        found["leave one out"].append(replay(Drafter(prompt, numbers, others), text, cost, most_rows))
        found["random tokens"].append(replay(Drafter(prompt, numbers, others), unforeseen, cost, most_rows))
    return found


def cost_from(text: str) -> StepCost:
    """Return the cost of steps from `1,1.2,...` or a result file of step_rows.py."""
    if text.endswith(".json"):
        steps = json.loads(Path(text).read_text("utf-8"))["steps"]
        return StepCost({step["tokens"]: step["ours_ms"] / 1000 for step in steps if step["tokens"] <= 8})
    return StepCost({rows: float(seconds) for rows, seconds in enumerate(text.split(","), 1)})


def read_texts(path: Path, tokenizer: Tokenizer, template: str) -> list[tuple[list[int], list[int]]]:
    """Return the tokens of each entry's prompt and rubric."""
    entries = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [
        (
            tokenizer.encode(entry.get("prompt") or template.replace("{prompt}", entry.get("request", ""))),
            tokenizer.encode(entry["rubric"]),
        )
        for entry in entries
    ]


def main() -> None:
    """Replay the rubrics of a file and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rubrics", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--template", type=Path, help="What a request is put into.  [default: nothing]")
    parser.add_argument("--cost", default=str(Path(__file__).with_name("results") / "steps-4b.json"))
    parser.add_argument("--most-rows", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cost = cost_from(options.cost)
    tokenizer = Tokenizer.from_file(options.tokenizer)
    template = options.template.read_text("utf-8") if options.template else "{prompt}"
    texts = read_texts(options.rubrics, tokenizer, template)
    found = replays(texts, ItemNumbers(tokenizer), cost, options.most_rows)
    report = {
        name: {
            **sum(runs, Replay()).figures(),
            "each_times_as_fast": [round(run.times_as_fast, 3) for run in runs],
        }
        for name, runs in found.items()
    }
    if options.json:
        print(json.dumps({"texts": len(texts), "cost": cost.measured, "replays": report}, indent=2))
        return
    print(f"{len(texts)} texts, {sum(len(text) for _, text in texts)} tokens; cost by rows {cost.measured}")
    for name, figures in report.items():
        shares = ", ".join(f"{source} {right} of {of}" for source, (right, of) in figures["acceptance"].items())
        print(
            f"{name:14} {figures['tokens_per_step']:.2f} tokens and {figures['rows_per_step']:.2f} rows per step, "
            f"{figures['times_as_fast']:.3f} times as fast; accepted: {shares or 'nothing was drafted'}\n"
            f"{'':14} each {figures['each_times_as_fast']}; a proposal takes {figures['propose_us']['median']:.0f} us "
            f"(p99 {figures['propose_us']['p99']:.0f})"
        )


if __name__ == "__main__":
    main()
