#!/usr/bin/env python3
"""A side of compare.py: opens a bundle, and for each line with a number answers a request and prints its times.

Only what every version of the package has is used: it runs the code of older commits too.
"""

from __future__ import annotations

import json
import sys
from importlib.machinery import PathFinder

# What PYTHONPATH names comes before an editable installation, which has a finder of its own.
sys.meta_path.insert(0, PathFinder)

from rubricrm import RubricModel  # noqa: E402

REQUESTS = (
    "Explain to a ten-year-old how a rainbow forms. Use fewer than 100 words and end with a question.",
    "Write a haiku about rain. Do not use the word water.",
    "Give me three ideas for a quick dinner with eggs, each in one sentence.",
    "What is the difference between a process and a thread?",
)


def main() -> None:
    """Answer until standard input ends."""
    bundle, new_tokens = sys.argv[1], int(sys.argv[2])
    with RubricModel.open(bundle) as model:
        for line in sys.stdin:
            # Another text each time: a prompt that was kept would be no prompt any more.
            request = f"{line.strip()}. {REQUESTS[int(line) % len(REQUESTS)]}"
            result = model.generate(request, max_new_tokens=new_tokens)
            times, count = result.timings_ms, result.usage.completion_tokens
            assert times.first_token is not None
            token = (times.total - times.first_token) / max(1, count - 1)
            print(json.dumps({"first_token_ms": times.first_token, "token_ms": token, "whole_ms": times.total}))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
