"""Criteria that are written again: a model in a loop, or a list that was given twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from rubricrm.rubric.criterion import Criterion, Issue

# Two equal criteria in a row happen; three, or the same two in the same order again, do not.
_MOST_TIMES = 2
# A text in which each word is there so many times, of so many words at least, goes in circles.
_TIMES_PER_WORD = 8
_FEWEST_WORDS = 40


def find_repetition(criteria: Sequence[Criterion]) -> Issue | None:
    """The issue of a list that repeats itself, at the first criterion that is written again. The cost is linear.

    A list repeats itself if a text is there three times, if two neighbors follow each other twice, or if a text goes in
    circles. Numbers and kinds do not count.
    """
    texts = [" ".join(criterion.text.casefold().split()) for criterion in criteria]
    times = Counter(texts)
    pairs = Counter(pairwise(texts))
    if max(times.values(), default=0) > _MOST_TIMES or max(pairs.values(), default=0) > 1:
        first = {text: place for place, text in reversed(list(enumerate(texts)))}
        again = next(criterion for place, criterion in enumerate(criteria) if first[texts[place]] < place)
        num_again = len(texts) - len(first)
        return Issue("repetition", again.span.line, f"{num_again} of {len(texts)} criteria were written before")
    for text, criterion in zip(texts, criteria, strict=True):
        if _goes_in_circles(text):
            return Issue("repetition", criterion.span.line, "a criterion goes in circles")
    return None


def _goes_in_circles(text: str) -> bool:
    words = text.split()
    return len(words) >= _FEWEST_WORDS and len(set(words)) * _TIMES_PER_WORD <= len(words)
