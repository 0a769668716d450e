"""What benchmarks/rivals.py kept: ours beside other systems, as ratios pair by pair."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from rubricrm.errors import OptionInvalid

# Of the prompts that are checked: INT4 moves the first token of random weights far, but another model would name one of
# the best thousandth on one prompt in a thousand.
LEAST_AGREEMENT = 0.125
TIMES = ("ttft_ms", "tpot_ms")


def is_ranked(own: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether both sides compute the model of the checkpoint."""
    return all(side["agreement"] >= LEAST_AGREEMENT for side in (own, facts))


def ratios(row: Mapping[str, Any], key: str) -> list[float]:
    """Return the rival's time divided by ours, pair by pair."""
    return [other / own for other, own in zip(row["rival"][key], row["ours"][key], strict=True)]


def read_rivals(path: Path) -> dict[str, Any]:
    """Read results for a report: what they were made with, and a row for each shape and rival that has one.

    The times of a row are how many times ours they are: `median`, `min` and `max` of the pairs.

    Raises:
        OptionInvalid: The file cannot be read, or is not of rivals.py.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        return {key: found[key] for key in ("checkpoint", "ours", "threads")} | {
            "cpu": found["machine"]["cpu"],
            "rows": [row for name in found["contenders"] for row in _rows(found, name)],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OptionInvalid(
            f"{path}: cannot be read as results of benchmarks/rivals.py ({type(error).__name__}: {error}). "
            "Pass one of benchmarks/results/rivals-*/*.json."
        ) from error


def _rows(found: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    facts, own = found["contenders"][name], found["contenders"][found["ours"]]
    return [
        {
            "name": name,
            "shape": shape,
            "ranked": is_ranked(own, facts),
            **{f"{key}_times_ours": _summary(ratios(row, key)) for key in TIMES},
        }
        for shape, row in facts["shapes"].items()
        if "rival" in row
    ]


def _summary(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}
