"""The comparison behind a certificate: the same requests to the candidate and to the CPU reference, and a verdict."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rubricrm.rubric.rubric import parse
from rubricrm.runtime.prompt import common_prefix
from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_export.certify.answers import Answerer, WrittenAnswer
from rubricrm_export.measure.rubric_agreement import RubricAgreement, WrittenRubric, compare_rubrics

MAX_NEW_TOKENS = 320
# Sums in another order, and 16-bit numbers, flip a token where two are nearly as probable; the rest of a rubric then
# differs in words. What a wrong scale or a wrong layout does is far below these.
MIN_SHARED_TOKENS = 0.5
MIN_AGREEMENT = 0.8


@dataclass(frozen=True)
class Thresholds:
    """What a certificate asks for.

    Attributes:
        shared_tokens: Share of the reference's tokens that stand before the first difference, over all requests.
        agreement: Dice coefficient of the criteria of both.
    """

    shared_tokens: float = MIN_SHARED_TOKENS
    agreement: float = MIN_AGREEMENT


@dataclass(frozen=True)
class Compared:
    """A request with both answers.

    Attributes:
        shared: Tokens before the first difference; none where the candidate's answer was cut.
        length: Tokens of the reference.
    """

    request: str
    reference: WrittenAnswer
    candidate: WrittenAnswer
    shared: int
    length: int

    @property
    def is_cut(self) -> bool:
        """Whether the candidate's tokens were used up where the reference had ended: that is no answer."""
        return self.reference.is_complete and not self.candidate.is_complete


@dataclass(frozen=True)
class Certificate:
    """What was found. Times are medians, of single requests one after the other, the first one left out."""

    candidate: str
    reference: str
    requests: tuple[Compared, ...]
    agreement: RubricAgreement | None
    thresholds: Thresholds
    environment: Mapping[str, Any]

    @property
    def shared_tokens(self) -> float:
        """Share of the reference's tokens before the first difference."""
        length = sum(compared.length for compared in self.requests)
        return sum(compared.shared for compared in self.requests) / length if length else 0.0

    @property
    def num_cut(self) -> int:
        """Requests that the candidate did not answer: its tokens were used up where the reference had ended."""
        return sum(compared.is_cut for compared in self.requests)

    @property
    def reasons(self) -> list[str]:
        """Why it is not certified; empty where it is."""
        found = []
        if self.shared_tokens < self.thresholds.shared_tokens:
            found.append(
                f"{self.shared_tokens:.0%} of the tokens stand before the first difference, expected at least "
                f"{self.thresholds.shared_tokens:.0%}"
            )
        agreement = None if self.agreement is None else self.agreement.agreement
        if agreement is None:
            found.append("neither model wrote a criterion, so rubrics cannot be compared")
        elif agreement < self.thresholds.agreement:
            found.append(f"{agreement:.0%} of the criteria agree, expected at least {self.thresholds.agreement:.0%}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, every answer included."""
        return {
            "certified": not self.reasons,
            "reasons": self.reasons,
            "candidate": self.candidate,
            "reference": self.reference,
            "shared_tokens": self.shared_tokens,
            "cut": self.num_cut,
            "identical": statistics.mean(c.reference.text == c.candidate.text for c in self.requests),
            "rubric_agreement": None if self.agreement is None else self.agreement.agreement,
            "rubrics": None if self.agreement is None else self.agreement.to_dict(),
            "candidate_ms": _times([compared.candidate for compared in self.requests]),
            "reference_ms": _times([compared.reference for compared in self.requests]),
            "environment": dict(self.environment),
            "requests": [
                {
                    "request": compared.request,
                    "shared_tokens": compared.shared,
                    "reference_tokens": compared.length,
                    "reference": compared.reference.text,
                    "candidate": compared.candidate.text,
                }
                for compared in self.requests
            ],
        }

    def to_markdown(self) -> str:
        """Return a page for people."""
        report = self.to_dict()
        verdict = "Certified" if report["certified"] else "Not certified: " + "; ".join(self.reasons)
        agreement = report["rubric_agreement"]
        rows = [
            ("candidate", self.candidate),
            ("reference", self.reference),
            ("requests", str(len(self.requests))),
            ("tokens before the first difference", f"{self.shared_tokens:.1%}"),
            ("cut off, which is no answer", str(self.num_cut)),
            ("identical texts", f"{report['identical']:.1%}"),
            ("criteria that agree", "none written" if agreement is None else f"{agreement:.1%}"),
            *((f"candidate, {key}, median ms", _ms(value)) for key, value in report["candidate_ms"].items()),
            *((f"reference, {key}, median ms", _ms(value)) for key, value in report["reference_ms"].items()),
            *((key, str(value)) for key, value in self.environment.items()),
        ]
        table = "\n".join(f"| {key} | {value} |" for key, value in rows)
        return f"# {verdict}\n\n| | |\n| --- | --- |\n{table}\n"

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


def certify(
    candidate: Answerer,
    reference: Answerer,
    tokenizer: Tokenizer,
    requests: Sequence[str],
    environment: Mapping[str, Any],
    *,
    thresholds: Thresholds | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Certificate:
    """Let both answer the requests, in turns, and compare.

    Args:
        candidate: What is to be certified.
        reference: What is right.
        tokenizer: The model's: texts are compared token by token.
        requests: What is asked.
        environment: What the report says of the machine.
        thresholds: What is asked for; None for the defaults.
        on_progress: Gets the requests answered, and their number.

    Raises:
        RubricrmError: One of them failed.
    """
    compared = []
    for number, request in enumerate(requests, 1):
        expected = reference.answer(request, MAX_NEW_TOKENS)
        found = candidate.answer(request, MAX_NEW_TOKENS)
        compared.append(_compared(request, expected, found, tokenizer))
        if on_progress:
            on_progress(number, len(requests))
    agreement = compare_rubrics(
        {pair.request: _rubric(pair.reference) for pair in compared},
        {pair.request: _NO_RUBRIC if pair.is_cut else _rubric(pair.candidate) for pair in compared},
    )
    return Certificate(
        candidate.name, reference.name, tuple(compared), agreement, thresholds or Thresholds(), environment
    )


def _compared(request: str, expected: WrittenAnswer, found: WrittenAnswer, tokenizer: Tokenizer) -> Compared:
    left, right = tokenizer.encode(expected.text), tokenizer.encode(found.text)
    pair = Compared(request, expected, found, common_prefix(left, right), len(left))
    return replace(pair, shared=0) if pair.is_cut else pair


_NO_RUBRIC = WrittenRubric("", parse(""))


def _rubric(answer: WrittenAnswer) -> WrittenRubric:
    return WrittenRubric(answer.text, parse(answer.text, truncated=not answer.is_complete))


def _times(answers: Sequence[WrittenAnswer]) -> dict[str, float | None]:
    measured = answers[1:] or answers  # the first one warms up
    first = [answer.first_ms for answer in measured if answer.first_ms is not None]
    return {
        "first_text": statistics.median(first) if first else None,
        "total": statistics.median(answer.total_ms for answer in measured),
    }


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"
