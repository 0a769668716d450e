"""What a bundle lost against a reference: distance of their distributions, and of the rubrics that they write.

Both models read the same text, token by token as it stands (teacher-forced), and their distributions of the next token
are compared at every position. Figures that users compare with each other are defined here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rubricrm.errors import OptionInvalid

from rubricrm_export.calibrate.token_text import TokenText
from rubricrm_export.measure.logit_source import LogitSource, blocks
from rubricrm_export.measure.rubric_agreement import RubricAgreement

Array = NDArray[np.float64]

# Float64 numbers of one side that are in work at once: a few megabytes stay near the core.
_NUMBERS = 1 << 20
_MAX_EXPONENT = 700.0  # e^700 is still a number, and JSON has no infinity


@dataclass(frozen=True)
class Quality:
    """What was measured, over all tokens of a text.

    Attributes:
        kl: KL(reference || candidate) of the next token's distribution, in nats per token (mean).
        kl_stderr: Standard error of `kl`, with the sequences of the text as the sample; None where there is only one.
        top1_agreement: Share of positions where both find the same token most probable.
        perplexity: Of the candidate, on the tokens that follow in each sequence.
        reference_perplexity: The same of the reference.
        num_tokens: Positions compared.
        rubrics: How the models' own rubrics agree; None where they wrote none.
    """

    kl: float
    kl_stderr: float | None
    top1_agreement: float
    perplexity: float
    reference_perplexity: float
    num_tokens: int
    rubrics: RubricAgreement | None = None

    @property
    def rubric_agreement(self) -> float | None:
        """Share of criteria that the rubrics have in common; None where there are none to compare."""
        return None if self.rubrics is None else self.rubrics.agreement

    @property
    def figures(self) -> dict[str, float]:
        """What a manifest states: the figures that were measured."""
        names = ("kl", "kl_stderr", "top1_agreement", "perplexity", "reference_perplexity", "rubric_agreement")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None} | {"num_tokens": self.num_tokens}


def measure(
    reference: LogitSource,
    candidate: LogitSource,
    text: TokenText,
    num_tokens: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Quality:
    """Compare two models on a text, both block by block: memory is that of two blocks and the models.

    The rows of the prefix are not scored. The candidate is run first: what refuses its options does so at once.

    Args:
        reference: The model that is right.
        candidate: The model in question.
        text: What both were made for.
        num_tokens: Size of the tokenizer's vocabulary; columns beyond it are padding and do not count.
        on_progress: Gets the positions compared so far, and their number.

    Raises:
        OptionInvalid: The text holds no two tokens in a row.
        RubricrmError: As the sources.
    """
    _require_targets(text)
    sums = np.zeros((len(text.sequences), len(_COLUMNS)))
    total = sum(map(len, text.sequences))
    done = 0
    pairs = zip(_targets(text), candidate.rows(), reference.rows(), strict=True)
    for (sequence, targets), logits, reference_logits in pairs:
        step = max(1, _NUMBERS // num_tokens)
        for start in range(0, len(logits), step):
            rows = slice(start, start + step)
            q, p = (_log_softmax(side[rows, :num_tokens]) for side in (logits, reference_logits))
            sums[sequence] += _compare(p, q, targets[rows])
        done += len(logits)
        if on_progress:
            on_progress(done, total)
    return _summarize(sums)


# What is added up for each sequence.
_COLUMNS = ("positions", "kl", "same top", "targets", "reference loss", "loss")


def _require_targets(text: TokenText) -> None:
    if not any(len(sequence) > 1 for sequence in text.sequences):
        raise OptionInvalid(f"{text.name}: holds no two tokens in a row, nothing can be measured. Pass a longer text.")


def _targets(text: TokenText) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield, for each block, the number of its sequence, and the tokens that follow its own; the last has none."""
    for number, sequence in enumerate(text.sequences):
        following = np.array(sequence[1:], np.int64)
        start = 0
        for ids in blocks(sequence):
            yield number, following[start : start + len(ids)]
            start += len(ids)


def _log_softmax(logits: NDArray[np.float32]) -> Array:
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return x


def _compare(p: Array, q: Array, targets: NDArray[np.int64]) -> list[float]:
    """Return the sums of a few rows, in the order of _COLUMNS, from log-probabilities [rows, num_tokens]."""
    same = float(np.count_nonzero(p.argmax(axis=1) == q.argmax(axis=1)))
    followed = np.arange(len(targets)), targets
    losses = [-float(side[followed].sum()) for side in (p, q)]
    q -= p
    # No KL is negative; rounding would make it so where the two are nearly equal.
    kl = np.maximum(-(np.exp(p) * q).sum(axis=1), 0.0)
    return [len(p), float(kl.sum()), same, len(targets), *losses]


def _summarize(sums: Array) -> Quality:
    totals: dict[str, float] = dict(zip(_COLUMNS, sums.sum(axis=0).tolist(), strict=True))
    kl = totals["kl"] / totals["positions"]
    losses = [totals[name] / totals["targets"] for name in ("loss", "reference loss")]
    perplexity, reference_perplexity = (math.exp(min(loss, _MAX_EXPONENT)) for loss in losses)
    return Quality(
        kl=kl,
        kl_stderr=_stderr(kl, sums[:, _COLUMNS.index("kl")], sums[:, _COLUMNS.index("positions")]),
        top1_agreement=totals["same top"] / totals["positions"],
        perplexity=perplexity,
        reference_perplexity=reference_perplexity,
        num_tokens=int(totals["positions"]),
    )


def _stderr(mean: float, sums: Array, counts: Array) -> float | None:
    """Standard error of a mean over tokens that come in sequences, whose tokens are not independent.

    It is that of a ratio of two sums (Cochran, Sampling Techniques, 1977, section 6.4).
    """
    number = len(sums)
    if number < 2:
        return None
    deviations = float(np.square(sums - mean * counts).sum())
    return math.sqrt(number / (number - 1) * deviations) / float(counts.sum())
