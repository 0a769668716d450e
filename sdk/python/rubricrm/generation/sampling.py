"""Logits to token. Everything here is defined exactly, so that another language can repeat it.

One uniform number is drawn per token: number n (from 0) of seed s is SplitMix64's output n, its upper 53 bits times
2^-53 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). Logits become float64 and are
divided by the temperature; a token's weight is the exponential of the difference to the highest one. Filters apply in
the order top_k, top_p, min_p, each on what the one before left (top_p removes a token where the running sum before it,
from the most probable token on, has reached that part of the whole; of equal tokens a filter keeps those with the lower
ids). The token is the first one, in the order of ids, at which the running sum of the weights exceeds the uniform
number times the whole. A whole is a running sum in the order of ids.

No filter sorts the vocabulary: a threshold that is certain to be low enough leaves few tokens to sort, all of them only
where the distribution is flat. The result is bit for bit that of a stable sort of all tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rubricrm.generation.options import GenerationOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural logarithms of probability, before temperature and filters, over the whole vocabulary."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def uniform(seed: int, index: int) -> float:
    """Return uniform number `index` of a seed, in [0, 1)."""
    z = (seed + (index + 1) * _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53


def choose(logits: NDArray[np.float32], options: GenerationOptions, seed: int, index: int) -> int:
    """Return the token that follows.

    Sampling costs less than 2 ms for a vocabulary of 150,000 tokens. With top_p on a flat distribution, where most
    tokens remain and must be sorted, it costs 4 ms.

    Args:
        logits: [num_tokens], rows of padding cut off. Ties go to the lower id.
        options: Temperature and filters.
        seed: Of this generation.
        index: How many tokens this generation has chosen before.
    """
    if options.is_greedy:
        return int(logits.argmax())
    ids, kept = weights(logits, options)
    running = kept.cumsum()
    position = running.searchsorted(uniform(seed, index) * running[-1], side="right")
    # Where rounding makes the product the whole, the last token that has a weight is meant.
    return int(ids[min(position, running.searchsorted(running[-1]))])


def weights(logits: NDArray[np.float32], options: GenerationOptions) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return what is sampled from: the ids that remain, ascending, and their weights; the highest weight is 1."""
    import numpy as np

    kept = logits.astype(np.float64)
    kept /= options.temperature
    kept -= kept.max()
    np.exp(kept, out=kept)
    ids = np.arange(len(kept))
    if 0 < options.top_k < len(kept):
        chosen = _largest(kept, _nth_largest(kept, options.top_k), options.top_k)
        ids, kept = ids[chosen], kept[chosen]
    if options.top_p < 1:
        chosen = _largest(kept, *_top_p(kept, options.top_p))
        ids, kept = ids[chosen], kept[chosen]
    if options.min_p > 0:
        chosen = np.flatnonzero(kept >= options.min_p)
        ids, kept = ids[chosen], kept[chosen]
    return ids, kept


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
    num_top = min(num_top, len(scores))
    top: tuple[tuple[int, float], ...] = ()
    if num_top:
        ids = _largest(scores, _nth_largest(scores, num_top), num_top)
        top = tuple((int(i), float(scores[i])) for i in ids[np.argsort(-scores[ids], kind="stable")])
    return TokenLogprobs(token_id, float(scores[token_id]), top)


def _nth_largest(values: NDArray[np.float64], n: int) -> np.float64:
    import numpy as np

    nth: np.float64 = np.partition(values, len(values) - n)[len(values) - n]
    return nth


def _largest(values: NDArray[np.float64], least: np.float64, count: int) -> NDArray[np.int64]:
    """Return the positions of the `count` largest, ascending; `least` is the smallest of them."""
    import numpy as np

    chosen = values > least
    chosen[np.flatnonzero(values == least)[: count - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def _top_p(kept: NDArray[np.float64], top_p: float) -> tuple[np.float64, int]:
    """Return the smallest weight that top_p keeps, and how many tokens it keeps."""
    whole = kept.cumsum()[-1]
    # All tokens below the first threshold hold less than half of what top_p removes: the cut is above it. Only where
    # top_p is so near 1 that a sum's rounding matters may it not be, and all are sorted.
    for threshold in (whole * (1 - top_p) / (2 * len(kept)), 0.0):
        descending = kept[kept >= threshold]
        descending.sort()
        descending = descending[::-1]
        running = descending.cumsum()
        if running[-1] >= top_p * whole:
            break
    count = min(int(running.searchsorted(top_p * whole)) + 1, len(running))
    return descending[count - 1], count
