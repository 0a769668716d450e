"""Does every rubric keep the form? Many requests, greedy and sampled, with and without room, each parsed strictly.

python kept_form.py BUNDLE COUNT [REQUESTS.jsonl]
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rubricrm import RubricModel
from rubricrm.errors import RubricMalformed
from rubricrm.generation.grammar import Grammar
from rubricrm.generation.result import RubricResult
from rubricrm.rubric.rubric import parse
from varied_requests import read_requests, varied_request

_WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 1.0},
    "sampled, hot": {"temperature": 2.0, "top_p": 0.98},
}
_ROOM = 300  # tokens beyond the shortest rubric where there is room: the demo model's longest takes fewer
_PART = 25  # requests that have their options in common


def options_of(way: str, is_short: bool, grammar: Grammar, seed: int) -> dict[str, Any]:
    """Return the options of some requests: a budget from the shortest rubric on, and a seed."""
    spare = random.Random(seed).randrange(25) if is_short else _ROOM
    return {**_WAYS[way], "seed": seed, "max_new_tokens": grammar.shortest(grammar.start) + spare}


def faults_of(result: RubricResult) -> Iterator[str]:
    """Say what is wrong with a rubric; nothing is, if it is in the form to its end."""
    if result.finish_reason not in ("stop", "repetition"):
        yield f"ended by {result.finish_reason}"
    try:
        issues = parse(result.text, strict=True).issues
        yield from (f"issue {issue.code}" for issue in issues if issue.code != "repetition")
    except RubricMalformed as error:
        yield f"not in the form: {error}"


def check_way(model: RubricModel, requests: Iterable[str], way: str, is_short: bool) -> dict[str, Any]:
    """Write rubrics of all requests, and return counts and faults."""
    grammar = model._backend.engine._grammar
    assert grammar is not None
    counts, faults, all_requests = Counter[str](), [], list(requests)
    probability = 0.0
    for start in range(0, len(all_requests), _PART):
        options = options_of(way, is_short, grammar, seed=start)
        for outcome in model.generate_many(all_requests[start : start + _PART], **options):
            if outcome.result is None:
                faults.append(f"{all_requests[start + outcome.index]!r:.60}: {outcome.error!r:.200}")
                continue
            result = outcome.result
            assert result.grammar_overrules is not None
            counts.update(rubrics=1, items=len(result.rubric.criteria), tokens=result.usage.completion_tokens)
            counts.update({result.finish_reason: 1, "overrules": result.grammar_overrules.count})
            counts.update({f"issue {issue.code}": 1 for issue in result.rubric.issues})
            counts.update({"overruled rubrics": int(result.grammar_overrules.count > 0)})
            probability += result.grammar_overrules.probability
            faults += [f"{result.request!r:.60}: {fault}" for fault in faults_of(result)]
    return {"way": way, "short": is_short, **counts, "probability": round(probability, 3), "faults": faults}


def check_form(model: RubricModel, requests: list[str]) -> Iterator[dict[str, Any]]:
    """Write rubrics of all requests in every way."""
    return (check_way(model, requests, way, is_short) for way in _WAYS for is_short in (False, True))


def main() -> None:
    """Print a line of counts per way; fail if a rubric is not in the form."""
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    requests = [varied_request(seed) for seed in range(count)]
    for file in sys.argv[3:]:
        requests += read_requests(Path(file).read_text("utf-8"))
    with RubricModel.open(path, threads=1) as model:
        num_faults = 0
        for line in check_form(model, requests):
            print(json.dumps(line, ensure_ascii=False), flush=True)
            num_faults += len(line["faults"])
    sys.exit(num_faults > 0)


if __name__ == "__main__":
    main()
