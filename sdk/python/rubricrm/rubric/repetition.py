"""Criteria that are written again: a model in a loop, or a list that was given twice."""

from __future__ import annotations

from collections.abc import Sequence

from rubricrm.rubric.criterion import Criterion, Issue

# Two equal criteria in a row happen; three, or the same two in the same order again, do not.
_MOST_TIMES = 2


def find_repetition(criteria: Sequence[Criterion]) -> Issue | None:
    """The issue of a list that repeats itself, at the first criterion that is written again. The cost is linear.

    A list repeats itself if a text is there three times, or if two neighbors follow each other twice. Numbers and kinds
    do not count.
    """
    texts = [" ".join(criterion.text.casefold().split()) for criterion in criteria]
    times: dict[str, int] = {}
    pairs: set[tuple[str, str]] = set()
    repeats = False
    first_again: Criterion | None = None
    for before, text, criterion in zip(["", *texts], texts, criteria, strict=False):
        times[text] = times.get(text, 0) + 1
        repeats = repeats or times[text] > _MOST_TIMES or (before, text) in pairs
        pairs.add((before, text))
        if first_again is None and times[text] > 1:
            first_again = criterion
    if not repeats or first_again is None:
        return None
    num_again = len(texts) - len(times)
    return Issue("repetition", first_again.span.line, f"{num_again} of {len(texts)} criteria were written before")
