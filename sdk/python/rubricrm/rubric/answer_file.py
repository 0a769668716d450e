"""The answers of `llm_inference`, TensorRT Edge-LLM's program: a JSON file of texts, each of them a rubric.

As its sources write it (examples/llm/llm_inference.cpp): `responses` is a list, each with `output_text`, `request_idx`,
the number of the batch, and `batch_idx`, the place in it. Standard library only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rubricrm.errors import AnswersInvalid
from rubricrm.rubric.rubric import Rubric, parse

# What stands in the place of the text of a request that could not be run.
_FAILED = "TensorRT Edge LLM cannot handle this request. Fails."


@dataclass(frozen=True)
class Answer:
    """What was answered to one request.

    Attributes:
        request: Its number in the file of requests, from 0.
        rubric: What is in the text; empty where the request failed.
        failed: Whether the program could not run it.
    """

    request: int
    rubric: Rubric
    failed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        return {"request": self.request, "failed": self.failed, "rubric": self.rubric.to_dict()}


def read_answers(text: str, where: str) -> list[Answer]:
    """Read a file of answers, in the order of the requests.

    Args:
        text: Its contents.
        where: Its path, for messages.

    Raises:
        AnswersInvalid: Not JSON, or not such a file.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnswersInvalid(f"{where}: not JSON ({error}). Pass the --outputFile of llm_inference.") from error
    responses = document.get("responses") if isinstance(document, dict) else None
    if not isinstance(responses, list):
        raise AnswersInvalid(f'{where}: holds no list "responses". Pass the --outputFile of llm_inference.')
    return [_read(response, number, where) for number, response in enumerate(responses)]


def _read(response: object, number: int, where: str) -> Answer:
    text = response.get("output_text") if isinstance(response, dict) else None
    if not isinstance(text, str):
        raise AnswersInvalid(
            f'{where}: responses[{number}] has no text "output_text". Pass the --outputFile of llm_inference.'
        )
    failed = text == _FAILED
    return Answer(number, Rubric(()) if failed else parse(text), failed)
