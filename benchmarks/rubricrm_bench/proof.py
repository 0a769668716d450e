"""Whether a bundle's answers are right: found out before they are timed.

A benchmark of a model that computes nonsense is worth nothing, and nonsense is often faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rubricrm.bundle import Bundle
from rubricrm.errors import BundleInvalid
from rubricrm.model import RubricModel
from rubricrm.prompt import Prompt
from rubricrm.session import Session
from rubricrm.tokenizer import Tokenizer

from rubricrm_bench.bench_job import BenchJob

# Tokens of the first request that are computed again, one after the other.
_PLAIN_TOKENS = 32
# Requests that are compared with a reference, and the part of its tokens that must come before the first difference:
# quantization turns a near tie now and then, and all after it differ. Nonsense shares nothing.
_NUM_REQUESTS = 4
_LEAST_SHARED = 0.25


@dataclass(frozen=True)
class Proof:
    """What was found.

    Attributes:
        is_right: Whether the rows may be ranked.
        reason: What was compared, or what was wrong.
    """

    is_right: bool
    reason: str


def prove(bundle: Bundle, job: BenchJob, requests: tuple[str, ...]) -> Proof:
    """Compare a bundle with what it should be.

    Its files must have the hashes of the manifest; its logits must be finite, and the tokens of the first request those
    that its graph gives without prefix, cache or stream, a token at a time; with a reference, the rubrics of the first
    requests must begin as the reference's do.
    """
    try:
        bundle.verify()
    except BundleInvalid as error:
        return Proof(False, str(error))
    expected = _plain_text(bundle, job, requests[0])
    if expected is None:
        return Proof(False, "its logits are no finite numbers.")
    with RubricModel(bundle, device=job.device, threads=job.threads) as model:
        found = model.generate(requests[0], max_new_tokens=_PLAIN_TOKENS).text
        if found != expected:
            return Proof(False, f"it wrote {found[:60]!r}, its graph alone gives {expected[:60]!r}.")
        return _compared(model, requests[:_NUM_REQUESTS], job.reference)


def _compared(model: RubricModel, requests: tuple[str, ...], reference: Path | None) -> Proof:
    if reference is None:
        return Proof(True, "hashes, and the first rubric token by token; no other bundle was compared")
    shared = _shared(model, reference, requests)
    if shared < _LEAST_SHARED:
        return Proof(
            False,
            f"only {shared:.0%} of the tokens of {reference.name} come before the first difference, expected at least "
            f"{_LEAST_SHARED:.0%}.",
        )
    return Proof(True, f"hashes, the first rubric token by token, and {shared:.0%} of the tokens of {reference.name}")


def _plain_text(bundle: Bundle, job: BenchJob, request: str) -> str | None:
    """Generate greedily with the graph alone; None where its logits are no numbers."""
    facts = bundle.manifest
    tokenizer = Tokenizer.from_file(bundle.file(facts.tokenizer.file))
    ids = Prompt(facts.prompt, tokenizer).encode_request(request)
    session = Session(bundle, device=job.device, threads=job.threads, max_rows=len(ids))
    slot = session.new_slot(len(ids) + _PLAIN_TOKENS)
    chosen: list[int] = []
    step = ids
    while len(chosen) < _PLAIN_TOKENS:
        logits = session.run(slot, step)[0, : facts.tokenizer.num_tokens]
        if not np.isfinite(logits).all():
            return None
        best = int(logits.argmax())
        if best in facts.prompt.stop_ids:
            break
        chosen.append(best)
        step = [best]
    session.close()
    return tokenizer.decode(chosen)


def _shared(model: RubricModel, reference: Path, requests: tuple[str, ...]) -> float:
    """Return the share of the reference's text before the first difference."""
    total = common = 0
    with RubricModel.open(reference) as other:
        for request in requests:
            expected, found = other.generate(request).text, model.generate(request).text
            total += max(1, len(expected))
            common += next(
                (n for n, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]),
                min(len(expected), len(found)),
            )
    return common / total
