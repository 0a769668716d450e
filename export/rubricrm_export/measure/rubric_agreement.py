"""How far two models write the same rubrics for the same requests, decoding greedily."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rubricrm.errors import PromptTooLong, RequestInvalid
from rubricrm.generation.options import GenerationOptions
from rubricrm.rubric.criterion import Criterion
from rubricrm.rubric.rubric import Rubric, parse
from rubricrm.runtime.bundle import Bundle

from rubricrm_export.calibrate.request_writer import RequestWriter

NUM_REQUESTS = 16
_MAX_NEW_TOKENS = 320  # a rubric has about 200; a model that never ends must not take for ever


@dataclass(frozen=True)
class RubricAgreement:
    """Criteria of two models' rubrics, compared request by request.

    Two criteria are the same when their texts are, whatever their numbers, case and white space.

    Attributes:
        num_requests: Requests that both answered.
        identical: Share of them where both wrote exactly the same text.
        reference_criteria: Criteria of the reference, all rubrics together.
        candidate_criteria: Criteria of the candidate.
        common_criteria: Criteria in both rubrics of a request.
        kinds_flipped: Of those, how many are a hard rule in one and a principle, or untagged, in the other.
    """

    num_requests: int
    identical: float
    reference_criteria: int
    candidate_criteria: int
    common_criteria: int
    kinds_flipped: int

    @property
    def agreement(self) -> float | None:
        """Dice coefficient of the criteria: 2 common / (reference + candidate); None where neither wrote any."""
        written = self.reference_criteria + self.candidate_criteria
        return 2 * self.common_criteria / written if written else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class Written(Protocol):
    """What a model wrote for a request."""

    @property
    def text(self) -> str:
        """The text, as it was written."""
        ...

    @property
    def rubric(self) -> Rubric:
        """What is in it."""
        ...


@dataclass(frozen=True)
class WrittenRubric:
    """A text and the rubric in it."""

    text: str
    rubric: Rubric


def write_rubrics(
    bundle: Bundle,
    requests: Sequence[str],
    *,
    device: str = "cpu",
    threads: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, WrittenRubric]:
    """Open a bundle, let it answer requests greedily, and close it. Costs about 200 tokens per request.

    Requests that the model's context or vocabulary cannot hold are left out.

    Args:
        bundle: The model.
        requests: What to write rubrics for.
        device: As in `Session`.
        threads: As in `Session`.
        on_progress: Gets the requests answered, and their number.

    Raises:
        RubricrmError: As `Session`.
    """
    results = {}
    options = GenerationOptions(max_new_tokens=_MAX_NEW_TOKENS)
    with RequestWriter(bundle, device=device, threads=threads) as writer:
        for number, request in enumerate(requests, 1):
            try:
                _, ids, is_complete = writer.write(request, options)
            except (PromptTooLong, RequestInvalid):
                continue
            finally:
                if on_progress:
                    on_progress(number, len(requests))
            text = writer.tokenizer.decode(ids)
            rubric = parse(text, truncated=not is_complete, starts_in_thought=bundle.manifest.chat.starts_in_thought)
            results[request] = WrittenRubric(text, rubric)
    return results


def compare_rubrics(reference: Mapping[str, Written], candidate: Mapping[str, Written]) -> RubricAgreement | None:
    """Compare what two models wrote for the requests that both answered; None where there is none."""
    pairs = [(reference[request], candidate[request]) for request in reference if request in candidate]
    if not pairs:
        return None
    common = flipped = 0
    for left, right in pairs:
        same_text = _overlap(map(_text, left.rubric.criteria), map(_text, right.rubric.criteria))
        common += same_text
        flipped += same_text - _overlap(
            map(_text_and_kind, left.rubric.criteria), map(_text_and_kind, right.rubric.criteria)
        )
    return RubricAgreement(
        num_requests=len(pairs),
        identical=sum(left.text == right.text for left, right in pairs) / len(pairs),
        reference_criteria=sum(len(left.rubric.criteria) for left, _ in pairs),
        candidate_criteria=sum(len(right.rubric.criteria) for _, right in pairs),
        common_criteria=common,
        kinds_flipped=flipped,
    )


def _overlap(left: Iterable[object], right: Iterable[object]) -> int:
    return (Counter(left) & Counter(right)).total()


def _text(criterion: Criterion) -> str:
    return " ".join(criterion.text.casefold().split())


def _text_and_kind(criterion: Criterion) -> tuple[str, str | None]:
    return _text(criterion), criterion.kind
