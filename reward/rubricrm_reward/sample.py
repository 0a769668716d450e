"""One answer to be judged against a reference, and how trainers write requests and answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rubricrm.errors import OptionInvalid, RequestInvalid

# What a judge is shown in place of a blank answer.
EMPTY_ANSWER = "(The response is empty.)"


@dataclass(frozen=True, slots=True)
class RewardSample:
    """An answer of the policy, and what it is compared with.

    Attributes:
        request: What the user asked.
        answer: What the policy wrote.
        reference: The answer that it is compared with.
        rubric: The text of the request's rubric; None: the jury makes it, once per request.
    """

    request: str
    answer: str
    reference: str
    rubric: str | None = None


def make_sample(
    where: str, *, request: object, answer: object, reference: object, rubric: object = None
) -> RewardSample:
    """Return a sample of the values that a trainer hands over: texts or lists of chat messages.

    Args:
        where: What the values belong to, as the beginning of an error: "sample 3".
        request: A text, or messages, of which the last one by the user is the request.
        answer: A text, or messages, of which the last one by the assistant is the answer. In place of a blank one
            the judge is shown that there is none.
        reference: As `answer`.
        rubric: A text, or None.

    Raises:
        RequestInvalid: A value is of another type, or the request, the reference or the rubric is blank.
    """
    texts = {
        "request": _text(request, "user", f"{where}: request"),
        "reference": _text(reference, "assistant", f"{where}: reference"),
    }
    if rubric is not None:
        texts["rubric"] = _text(rubric, "", f"{where}: rubric")
    for name, text in texts.items():
        if not text.strip():
            raise RequestInvalid(f"{where}: {name} is blank, expected a text. Remove the row from the data set.")
    return RewardSample(answer=_shown(_text(answer, "assistant", f"{where}: answer")), **texts)


def make_samples(
    requests: Sequence[object], answers: Sequence[object], columns: Mapping[str, object], *, reference: str, rubric: str
) -> list[RewardSample]:
    """Return the samples of a batch whose references and rubrics are columns of the trainer's data set.

    Args:
        requests: One of each sample, as in `make_sample`.
        answers: One of each sample.
        columns: What else the trainer hands over: lists with an entry per sample, and other things.
        reference: The name of the column of references.
        rubric: The name of the column of rubrics, which may be missing; None in a row: the jury makes it.

    Raises:
        OptionInvalid: There is no column of references, or one of the columns has another length.
        RequestInvalid: As `make_sample`.
    """
    if reference not in columns:
        raise OptionInvalid(
            f"the data set has no column {reference!r}, found {sorted(columns)}. Add the reference answer of each "
            "prompt, or name its column by the argument reference."
        )
    size = len(requests)
    lists: list[Sequence[object]] = [requests, answers]
    for name in (reference, rubric):
        column = columns.get(name, [None] * size)
        if not isinstance(column, Sequence) or isinstance(column, str) or len(column) != size:
            raise OptionInvalid(f"column {name!r}: expected a list with an entry for each of {size} samples.")
        lists.append(column)
    return [
        make_sample(f"sample {index}", request=request, answer=answer, reference=entry, rubric=text)
        for index, (request, answer, entry, text) in enumerate(zip(*lists, strict=True))
    ]


def _shown(answer: str) -> str:
    """Return an answer as a judge can read it: whatever a policy writes is to be judged, and is no outage."""
    return answer.replace("\0", "\N{REPLACEMENT CHARACTER}") if answer.strip() else EMPTY_ANSWER


def _text(value: object, role: str, where: str) -> str:
    """Return a text, or the content of the last message of a role."""
    if isinstance(value, str):
        return value
    if role and isinstance(value, Collection) and not isinstance(value, Mapping | bytes):  # an array of Parquet's too
        for message in reversed(list(value)):
            if isinstance(message, Mapping) and message.get("role") == role:
                return _content(message.get("content"), where)
        raise RequestInvalid(f"{where}: expected a message of the role {role} among {len(value)}, found none.")
    expected = "a text or a list of chat messages" if role else "a text or None"
    raise RequestInvalid(f"{where}: expected {expected}, got {type(value).__name__}.")


def _content(content: object, where: str) -> str:
    """Return the text of a message; one that only calls tools has none."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content if isinstance(content, Sequence) else [content]:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise RequestInvalid(f"{where}: expected parts of the type text, got {part!r:.80}. Only texts are judged.")
        texts.append(text)
    return "".join(texts)
