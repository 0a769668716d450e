"""Writes the rubrics of the short and bare requests that the corpus leaves out, and says which of them collapsed.

python short_requests.py --json ../../benchmarks/results/short-requests-demo.jsonl
python short_requests.py --bundle BUNDLE --requests MY_REQUESTS.txt --json OUT.jsonl

The bundle that comes with the package is asked by greedy decoding, as `rubricrm generate` asks it. REQUESTS holds a
request per line, and comments after `# `. A rubric has collapsed if it does not end by itself, or says a thing again
and again. The exit status is 1 if any of them has.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from rubricrm import RubricModel, parse
from rubricrm.text_model import DEMO_BUNDLE
from templates import HERE, lines

MAX_NEW_TOKENS = 1024
# A word that comes four times in a row, or two to six words that come three times.
WORD_RUN = re.compile(r"(?:\b(\w+)(?:\W+\1\b){3})|(?:\b(\w+(?:\W+\w+){1,5})(?:\W+\2\b){2})", re.IGNORECASE)


def collapse(text: str, finish_reason: str) -> str | None:
    """What is wrong with a rubric that does not end or that repeats itself; None for any other."""
    if finish_reason != "stop":
        return f"finish reason {finish_reason}"
    texts = [criterion.text.lower() for criterion in parse(text).criteria]
    if not texts:
        return "no criterion"
    if len(set(texts)) < len(texts):
        return "repeats a criterion"
    run = WORD_RUN.search(text)
    return f"repeats {run[1] or run[2]!r}" if run else None


def rows(model: RubricModel, requests: list[str]) -> Iterator[dict[str, object]]:
    """The outcome of each request."""
    for outcome in model.generate_many(requests, ordered=True, max_new_tokens=MAX_NEW_TOKENS):
        result = outcome.result
        if result is None:
            raise RuntimeError(f"{outcome.request!r} failed: {outcome.error}")
        yield {
            "request": outcome.request,
            "text": result.text,
            "finish_reason": result.finish_reason,
            "num_criteria": len(result.rubric.criteria),
            "num_issues": len(result.rubric.issues),
            "collapse": collapse(result.text, result.finish_reason),
        }


def main() -> int:
    """Parses the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=DEMO_BUNDLE)
    parser.add_argument("--requests", type=Path, default=HERE / "held_out.txt")
    parser.add_argument("--json", type=Path, metavar="OUT", help="where to write a JSON object per request")
    args = parser.parse_args()
    with RubricModel.open(args.bundle) as model:
        found = list(rows(model, lines(args.requests)))
    collapsed = [row for row in found if row["collapse"]]
    for row in collapsed:
        print(f"{row['request']!r}: {row['collapse']}")
    num_issues = sum(row["num_issues"] != 0 for row in found)
    print(f"{len(found)} requests, {len(collapsed)} collapsed, {num_issues} malformed")
    if args.json is not None:
        args.json.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8")
    return 1 if collapsed else 0


if __name__ == "__main__":
    sys.exit(main())
