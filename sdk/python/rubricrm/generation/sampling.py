"""Logits to token. Everything here is defined exactly, so that another language can repeat it.

One uniform number is drawn per token: number n (from 0) of seed s is SplitMix64's output n, its upper 53 bits times
2^-53 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). Logits become float64 and are
divided by the temperature; filters apply in the order top_k, top_p, min_p, each on what the one before left (top_p
removes a token where the running sum before it, from the most probable token on, has reached that part of the whole);
the probabilities are normalized again; the token is the first one, in the order of ids, at which the running sum of
probabilities exceeds the uniform number. Normalizing divides by a sum that runs in the order of ids.
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

    Args:
        logits: [num_tokens], rows of padding cut off. Ties go to the lower id.
        options: Temperature and filters.
        seed: Of this generation.
        index: How many tokens this generation has chosen before.
    """
    if options.is_greedy:
        return int(logits.argmax())
    kept = probabilities(logits, options)
    return min(int((kept.cumsum() <= uniform(seed, index)).sum()), int(kept.nonzero()[0][-1]))


def probabilities(logits: NDArray[np.float32], options: GenerationOptions) -> NDArray[np.float64]:
    """Return the distribution that is sampled from, 0 for tokens that a filter removed. [num_tokens], sum 1."""
    import numpy as np

    kept = _softmax(logits.astype(np.float64) / options.temperature)
    if 0 < options.top_k < kept.size or options.top_p < 1:
        # Stable, so that of equal tokens the lower ids are kept.
        order = np.argsort(-kept, kind="stable")
        if options.top_k:
            kept[order[options.top_k :]] = 0
        if options.top_p < 1:
            running = np.cumsum(kept[order])
            kept[order[1:][running[:-1] >= options.top_p * running[-1]]] = 0
    kept[kept < options.min_p * kept.max()] = 0
    return _normalized(kept)


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
    top = np.argsort(-scores, kind="stable")[:num_top]
    return TokenLogprobs(token_id, float(scores[token_id]), tuple((int(i), float(scores[i])) for i in top))


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return _normalized(np.exp(scores - scores.max()))


def _normalized(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    # The last running sum, not sum(): that one adds in pairs, and another language would have to do the same.
    normalized: NDArray[np.float64] = weights / weights.cumsum()[-1]
    return normalized
