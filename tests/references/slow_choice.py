"""The choice of tokens, word for word as docs/NATIVE_SPEC.md tells it: token by token, nothing shared with the SDK."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any


def uniform(seed: int, index: int) -> int:
    """SplitMix64's output number `index`, its upper 53 bits."""
    state = (seed + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return (state ^ state >> 31) >> 11


def float32(value: float) -> float:
    """The nearest number of float32; beyond the largest, infinity."""
    try:
        return float(struct.unpack("=f", struct.pack("=f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def made_row(made: dict[str, Any]) -> list[float]:
    """A row of logits from a few numbers: see tests/cases/sampling/README.md."""
    seed, count, scale, levels = made["seed"], made["count"], made["scale"], made.get("levels", 0)
    row = [(uniform(seed, n) / 2**52 - 1) * scale for n in range(count)]
    if levels:
        row = [math.floor(value * levels) / levels for value in row]
    row = [float32(value) for value in row]
    for n in range(made.get("peaks", 0)):
        at = uniform(seed + 1, n) % count
        row[at] = float32(row[at] + float32(scale))
    return row


def _halving() -> list[int]:
    powers, factor = [1.0], 0.5
    while len(powers) < 4096:
        factor = math.sqrt(factor)
        powers = [finer for power in powers for finer in (power, power * factor)]
    return [int(power * 2**40) for power in powers]


_HALVING = _halving()


def weight(logit: float, highest: float, temperature: float) -> int:
    """The weight of a token. Rounding to float64 before float32 changes no result of two numbers of float32."""
    scale = float32(4096 / (temperature * math.log(2)))
    below = min(float32(float32(highest - logit) * scale), 41 * 4096 - 1)
    steps = int(float32(below + 0.5))
    return _HALVING[steps % 4096] >> steps // 4096


def weights(row: Sequence[float], options: dict[str, Any]) -> tuple[list[int], list[int]]:
    """The ids that remain, ascending, and their weights."""
    highest = max(row)
    kept = {n: weight(logit, highest, options["temperature"]) for n, logit in enumerate(row)}
    order = sorted(kept, key=lambda n: (-kept[n], n))
    if options.get("top_k", 0):
        order = order[: options["top_k"]]
    if options.get("top_p", 1) < 1:
        part = int(Fraction(options["top_p"]) * 2**53)
        enough = max(1, sum(kept[n] for n in order) * part >> 53)
        before, few = 0, []
        for n in order:
            if before >= enough:
                break
            few.append(n)
            before += kept[n]
        order = few
    ids = sorted(n for n in order if kept[n] >= Fraction(options.get("min_p", 0)) * 2**40)
    return ids, [kept[n] for n in ids]


def choose(row: Sequence[float], options: dict[str, Any], seed: int, index: int) -> int:
    """The token that follows."""
    if not options.get("temperature"):
        return max(range(len(row)), key=lambda n: (row[n], -n))
    ids, kept = weights(row, options)
    return draw(ids, kept, seed, index)


def draw(ids: Sequence[int], kept: Sequence[int], seed: int, index: int) -> int:
    """The first token at which the running sum exceeds the point."""
    point, running = uniform(seed, index) * sum(kept) >> 53, 0
    for n, its_weight in zip(ids, kept, strict=True):
        running += its_weight
        if running > point:
            return n
    raise AssertionError("the point is below the whole")
