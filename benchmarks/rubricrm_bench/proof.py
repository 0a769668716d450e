"""Whether a bundle's answers are right: found out before they are timed.

A benchmark of a model that computes nonsense is worth nothing, and nonsense is often faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rubricrm.errors import BundleInvalid
from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_bench.bench_job import BenchJob

# Tokens of the first request that are computed again. Sums in another order, and inputs that are rounded in another
# company, move logits a little: so near to the best one a choice may be, relative to the largest.
_CHECKED_TOKENS = 32
_NEAR = 0.02
# Requests that are compared with a reference, and the part of its tokens that must come before the first difference:
# quantization turns a near tie now and then, and all after it differ. Nonsense shares nothing.
_NUM_REQUESTS = 4
_LEAST_SHARED = 0.25


@dataclass(frozen=True)
class Proof:
    """What was found.

    Attributes:
        is_right: Whether the rows may be ranked; None: nobody knows.
        reason: What was compared, or what was wrong.
    """

    is_right: bool | None
    reason: str


def prove(bundle: Bundle, job: BenchJob, requests: tuple[str, ...]) -> Proof:
    """Compare a bundle with what it should be.

    Its files must have the hashes of the manifest; the tokens of the first request must be those that its graph finds
    best, or as good, without prefix and cache; with a reference, the rubrics of the first requests must begin as the
    reference's do.

    Raises:
        OutputInvalid: It computes no numbers: there is nothing to measure.
    """
    try:
        bundle.verify()
    except BundleInvalid as error:
        return Proof(False, str(error))
    with RubricModel(bundle, device=job.device, threads=job.threads) as model:
        written = model.generate(requests[0], max_new_tokens=_CHECKED_TOKENS, logprobs=1, constrain=False)
        problem = _problem(bundle, job, requests[0], [token.token_id for token in written.logprobs or ()])
        if problem is not None:
            return Proof(False, problem)
        if job.reference is None:
            return Proof(True, "hashes, and the first rubric, computed again; no other bundle was compared")
        found = "hashes, the first rubric, computed again, and "
        return _compared(model, requests[:_NUM_REQUESTS], job.reference, found)


def prove_served(model: RubricModel, job: BenchJob, requests: tuple[str, ...]) -> Proof:
    """Compare a model on a server with a reference, as `prove` does; nothing of it can be computed again here."""
    if job.reference is None:
        return Proof(None, "nobody knows whether the answers are right. Pass --reference BUNDLE to compare them")
    return _compared(model, requests[:_NUM_REQUESTS], job.reference, "")


def _compared(model: RubricModel, requests: tuple[str, ...], reference: Path, found: str) -> Proof:
    shared = _shared(model, reference, requests)
    if shared < _LEAST_SHARED:
        return Proof(
            False,
            f"only {shared:.0%} of the tokens of {reference.name} come before the first difference, expected at least "
            f"{_LEAST_SHARED:.0%}.",
        )
    return Proof(True, f"{found}{shared:.0%} of the tokens of {reference.name}")


def _problem(bundle: Bundle, job: BenchJob, request: str, chosen: list[int]) -> str | None:
    """Run prompt and answer through the graph at once, without prefix or cache, and look at every choice."""
    facts = bundle.manifest
    tokenizer = Tokenizer.from_file(bundle.file(facts.tokenizer.file))
    ids = Prompt(facts.prompt, facts.chat, tokenizer).encode_request(request)
    count = len(ids) + len(chosen)
    session = Session(bundle, device=job.device, threads=job.threads, max_rows=count)
    rows = session.run(session.new_slot(count), [*ids, *chosen], rows=len(chosen) + 1)
    session.close()
    rows = rows[:-1, : facts.tokenizer.num_tokens]
    for place, (token_id, row) in enumerate(zip(chosen, rows, strict=True)):
        if row.max() - row[token_id] > _NEAR * np.abs(row).max():
            return f"token {place} of the first rubric is {token_id}, its graph alone prefers {int(row.argmax())}."
    return None


def _shared(model: RubricModel, reference: Path, requests: tuple[str, ...]) -> float:
    """Return the share of the reference's text before the first difference."""
    total = common = 0
    with RubricModel.open(reference) as other:
        for request in requests:
            expected, found = (side.generate(request, constrain=False).text for side in (other, model))
            total += max(1, len(expected))
            common += next(
                (n for n, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]),
                min(len(expected), len(found)),
            )
    return common / total
