"""How often the drafts of one sequence came true, by their source and by how sure it was."""

from __future__ import annotations

from enum import IntEnum


class DraftSource(IntEnum):
    """Where a drafted token comes from."""

    GRAMMAR = 0  # of the only text that the answer's form allows here
    NUMBER = 1  # the next item's, counted
    PHRASES = 2  # finished rubrics
    TEXT = 3  # this prompt and what was written after it


_CLASSES = 10  # of probability, per source
_PRIOR_WEIGHT = 6.0  # tokens that a source's own statement counts for
_DECAY = 0.97  # per drafted token of the same source and class
_CERTAIN = 0.99
_COUNTED = 0.95


class Acceptance:
    """Corrects what a source says about its drafts by what became of them.

    A class is a source and a tenth of probability. Its share of accepted tokens begins at what the source says; the
    last 30 tokens or so weigh most. A source that is always wrong is found out after a few tokens.
    """

    def __init__(self) -> None:
        classes = len(DraftSource) * _CLASSES
        self._accepted = [0.0] * classes
        self._drafted = [0.0] * classes
        self._chances = [(index % _CLASSES + 0.5) / _CLASSES for index in range(classes)]
        self._chances[grade(DraftSource.GRAMMAR, 1.0)] = _CERTAIN
        self._chances[grade(DraftSource.NUMBER, 1.0)] = _COUNTED
        self._priors = tuple(self._chances)

    def chance(self, of_grade: int) -> float:
        """Return how likely a drafted token of a class is to come true, if those before it do."""
        return self._chances[of_grade]

    def record(self, of_grade: int, *, accepted: bool) -> None:
        """Note what became of a drafted token. One after a refused token was never judged: it is not noted."""
        self._accepted[of_grade] = self._accepted[of_grade] * _DECAY + accepted
        self._drafted[of_grade] = self._drafted[of_grade] * _DECAY + 1
        self._chances[of_grade] = (self._accepted[of_grade] + self._priors[of_grade] * _PRIOR_WEIGHT) / (
            self._drafted[of_grade] + _PRIOR_WEIGHT
        )


def grade(source: DraftSource, probability: float) -> int:
    """Return the class of a token that a source names with a probability of 0 to 1."""
    return source * _CLASSES + min(int(probability * _CLASSES), _CLASSES - 1)


def source_of(of_grade: int) -> DraftSource:
    """Return the source of a class."""
    return DraftSource(of_grade // _CLASSES)
