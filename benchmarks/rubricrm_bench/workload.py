"""The rows of a benchmark: which requests are sent, and how many at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from rubricrm.errors import OptionInvalid
from rubricrm.model import RubricModel
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import RUBRIC
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_bench.bench_job import BenchJob
from rubricrm_bench.sample import Sample, run_request, run_shape

_WORDS = ("rain", "light", "stone", "river", "green", "seven", "paper", "cloud", "iron", "salt")


@dataclass(frozen=True)
class BenchRow:
    """Requests that are alike, sent so many at once.

    Attributes:
        name: "rubrics", or "390/200": prompt and new tokens.
        concurrency: Requests in flight.
        texts: Sent in turn, again from the first when they are used up.
        new_tokens: Of a fixed shape; None: rubrics, which end by themselves.
    """

    name: str
    concurrency: int
    texts: tuple[str, ...]
    new_tokens: int | None

    def run(self, model: RubricModel, number: int) -> Sample:
        """Send a request."""
        text = self.texts[number % len(self.texts)]
        return run_request(model, text) if self.new_tokens is None else run_shape(model, text, self.new_tokens)


def make_rows(job: BenchJob, bundle: Bundle, requests: tuple[str, ...]) -> list[BenchRow]:
    """Return the rows of a job; the requests are those of `read_requests`.

    Raises:
        OptionInvalid: A shape does not fit the model.
    """
    rows = [BenchRow("rubrics", concurrency, requests, None) for concurrency in job.concurrency if not job.no_rubrics]
    tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
    prompt = Prompt(bundle.manifest.prompt, bundle.manifest.chat, tokenizer)
    context = bundle.manifest.model.context_length
    for prompt_tokens, new_tokens in job.shapes:
        if prompt_tokens + new_tokens > context:
            raise OptionInvalid(
                f"{prompt_tokens} prompt tokens and {new_tokens} new ones exceed the context of {context}. Pass less."
            )
        message = message_of_length(prompt, prompt_tokens)
        name = f"{prompt_tokens}/{new_tokens}"
        rows += [BenchRow(name, concurrency, (message,), new_tokens) for concurrency in job.concurrency]
    return rows


def read_requests(path: Path | None) -> tuple[str, ...]:
    """Read requests, one JSON object with `request` a line; None: the built-in ones.

    Raises:
        OptionInvalid: The file cannot be read or holds none.
    """
    source = files("rubricrm_bench").joinpath("requests.jsonl") if path is None else path
    try:
        lines = [line for line in source.read_text("utf-8").splitlines() if line.strip()]
        requests = tuple(json.loads(line)["request"] for line in lines)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionInvalid(f'{source}: expected lines of JSON with "request" ({error!r}).') from error
    if not requests or not all(isinstance(request, str) and request.strip() for request in requests):
        raise OptionInvalid(f'{source}: expected a text under "request" in each line, and at least one line.')
    return requests


def message_of_length(prompt: Prompt, num_tokens: int) -> str:
    """Return a message whose prompt, in the chat template and without the rubric's, has exactly so many tokens.

    Raises:
        OptionInvalid: The chat template alone has more.
    """

    def length(text: str) -> int:
        return len(prompt.encode_messages([{"role": "user", "content": text}]))

    text = "a"
    least = length(text)
    if num_tokens < least:
        raise OptionInvalid(
            f"prompt-tokens must be at least {least}, what the chat template alone takes, got {num_tokens}."
        )
    text = _grow(text, [f" {word}" for word in _WORDS], length, num_tokens)
    # What is left is shorter than a word: letters, each of which is a token or joins one.
    return _grow(text, [" a", " b", ".", "!", "1", "\n"], length, num_tokens, exact=True)


def _grow(text: str, pieces: Sequence[str], length: Callable[[str], int], most: int, *, exact: bool = False) -> str:
    """Append pieces in turn while the text has at most so many tokens; `exact`: until it has."""
    number = 0
    while length(text) < most:
        fitting = [piece for piece in (*pieces[number % len(pieces) :], *pieces) if length(text + piece) <= most]
        if not fitting:
            if exact:
                raise OptionInvalid(f"no message of exactly {most} tokens was found. Pass another prompt-tokens.")
            return text
        text += fitting[0]
        number += 1
    return text


def without_stops(bundle: Bundle) -> Bundle:
    """Return a bundle whose answers of fixed length do not end before it.

    The id that is left as the only end is padding, which is never chosen, or, where there is none, the last one. The
    form of a rubric, which ends at another, is left out.
    """
    manifest = bundle.manifest
    ids = (manifest.model.vocab_size - 1,)
    prompts = {**manifest.prompts, RUBRIC: replace(manifest.prompt, stop_ids=ids, grammar=None)}
    return replace(bundle, manifest=replace(manifest, prompts=prompts))
