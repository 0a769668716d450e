"""Logits to token. Everything here is defined exactly, so that another language or processor repeats it to the bit.

A token's weight is a whole number: 2^40 for the highest logit, and half as much for each ln 2 times the temperature
below it, in steps of 1/4096 of a halving; nothing is left after 41 halvings. Sums of whole numbers are exact in any
order, and no library's exponential has a part in it. A weight differs from the exponential by 0.01 % and 1 at most.

One uniform number is drawn per token: number n (from 0) of seed s is the upper 53 bits of SplitMix64's output n
(Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). The token is the first one, in the
order of ids, at which the running sum of the weights exceeds the uniform number times the whole, over 2^53, rounded
down.

Filters apply in the order top_k, top_p, min_p, each on what the one before left. top_p removes a token where the
running sum before it, from the most probable token on, has reached that part of the whole. Of equal tokens a filter
keeps those with the lower ids. docs/NATIVE_SPEC.md says each step in order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from rubricrm.generation.options import GenerationOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Number = TypeVar("_Number", np.int64, np.float32)

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_HIGHEST = 40  # the highest weight is 2 to the power of it: the sum of 2^22 weights fits into 63 bits
_STEPS = 4096  # of the difference of two logits, while a weight halves
_LAST = (_HIGHEST + 1) * _STEPS - 1  # the first of these steps at which no weight is left, and all after it
_BLOCK = 512


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural logarithms of probability, before temperature and filters, over the whole vocabulary."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def uniform(seed: int, index: int) -> int:
    """Return uniform number `index` of a seed, from 0 to 2^53 - 1."""
    z = (seed + (index + 1) * _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) >> 11


def choose(logits: NDArray[np.float32], options: GenerationOptions, seed: int, index: int) -> int:
    """Return the token that follows.

    Sampling costs 0.4 ms for a vocabulary of 150,000 tokens. With top_p on a flat distribution, where most tokens
    remain and must be sorted, it costs 2 ms.

    Args:
        logits: [num_tokens], rows of padding cut off, no NaN, at least one finite. Ties go to the lower id.
        options: Temperature and filters.
        seed: Of this generation.
        index: How many tokens this generation has chosen before.
    """
    import numpy as np

    if options.is_greedy:
        return int(logits.argmax())
    ids, kept = weights(logits, options)
    starts = np.arange(0, len(kept), _BLOCK)
    ends = np.add.reduceat(kept, starts).cumsum()
    point = uniform(seed, index) * int(ends[-1]) >> 53
    block = int(ends.searchsorted(point, side="right"))
    start = int(starts[block])
    rest = point - int(ends[block - 1]) if block else point
    return int(ids[start + kept[start : start + _BLOCK].cumsum().searchsorted(rest, side="right")])


def weights(logits: NDArray[np.float32], options: GenerationOptions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what is sampled from: the ids that remain, ascending, and their weights; the highest weight is 2^40."""
    import numpy as np

    with np.errstate(over="ignore"):
        steps = logits.max() - logits
        steps *= np.float32(_STEPS / (options.temperature * math.log(2)))
    np.minimum(steps, np.float32(_LAST), out=steps)
    steps += np.float32(0.5)
    kept = _weights_of_steps().take(steps.astype(np.intp), mode="clip")
    ids = np.arange(len(kept))
    if 0 < options.top_k < len(kept):
        chosen = _largest(kept, _nth_largest(kept, options.top_k), options.top_k)
        ids, kept = ids[chosen], kept[chosen]
    if options.top_p < 1:
        chosen = _largest(kept, *_top_p(kept, options.top_p))
        ids, kept = ids[chosen], kept[chosen]
    if options.min_p > 0:
        chosen = np.flatnonzero(kept >= math.ceil(options.min_p * 2**_HIGHEST))
        ids, kept = ids[chosen], kept[chosen]
    return ids, kept


@cache
def _weights_of_steps() -> NDArray[np.int64]:
    """Return the weight of each number of steps: 2^40 * 2^(-steps / 4096), rounded down (1.3 MB)."""
    import numpy as np

    powers, factor = np.ones(1), 0.5
    while len(powers) < _STEPS:  # square roots and products are the same on every machine, a power may not be
        factor = math.sqrt(factor)
        powers = np.stack([powers, powers * factor], axis=1).ravel()
    halving = (powers * 2.0**_HIGHEST).astype(np.int64)
    return (halving >> np.arange(_HIGHEST + 1)[:, None]).ravel()


def logprobs(logits: NDArray[np.float32], token_id: int, num_top: int) -> TokenLogprobs:
    """Return the log-probability of a token and of the most probable ones.

    Args:
        logits: [vocab_size], the whole row, rows of padding too: the model's own distribution.
        token_id: The chosen token.
        num_top: How many alternatives to list, the most probable first, ties by id.
    """
    import numpy as np

    scores = logits.astype(np.float64)
    scores -= scores.max()
    scores -= np.log(np.exp(scores).sum())
    num_top = min(num_top, len(logits))
    top: tuple[tuple[int, float], ...] = ()
    if num_top:
        ids = _largest(logits, _nth_largest(logits, num_top), num_top)
        top = tuple((int(i), float(scores[i])) for i in ids[np.argsort(-logits[ids], kind="stable")])
    return TokenLogprobs(token_id, float(scores[token_id]), top)


def _nth_largest(values: NDArray[_Number], n: int) -> _Number:
    import numpy as np

    nth: _Number = np.partition(values, len(values) - n)[len(values) - n]
    return nth


def _largest(values: NDArray[_Number], least: _Number, count: int) -> NDArray[np.int64]:
    """Return the positions of the `count` largest, ascending; `least` is the smallest of them."""
    import numpy as np

    chosen = values > least
    chosen[np.flatnonzero(values == least)[: count - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def _top_p(kept: NDArray[np.int64], top_p: float) -> tuple[np.int64, int]:
    """Return the smallest weight that top_p keeps, and how many tokens it keeps."""
    whole = int(kept.sum())
    enough = max(1, whole * int(top_p * 2.0**53) >> 53)
    # All tokens that are not above this weight hold no more than top_p removes: few of the others need sorting.
    descending = kept[kept > (whole - enough) // len(kept)]
    descending.sort()
    descending = descending[::-1]
    count = int(descending.cumsum().searchsorted(enough)) + 1
    return descending[count - 1], count
