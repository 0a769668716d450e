"""The texts that calibration and evaluation run on: files, built-in requests, and what the model writes itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

from rubricrm.errors import OptionInvalid, PromptTooLong, RequestInvalid
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_export.calibrate.request_writer import RequestWriter
from rubricrm_export.calibrate.token_text import SELF, WINDOW, TokenText

logger = logging.getLogger(__name__)

HELD_OUT = "held-out"

_MAX_FILE_BYTES = 256 << 20
_MAX_NEW_TOKENS = 256


def builtin_requests() -> list[str]:
    """Return the requests that the model writes calibration text for."""
    return [entry["request"] for entry in _data("builtin_requests.jsonl")]


def held_out_rubrics() -> list[tuple[str, str]]:
    """Return requests, none of them among `builtin_requests`, each with a rubric."""
    return [(entry["request"], entry["rubric"]) for entry in _data("held_out_rubrics.jsonl")]


def _data(name: str) -> Iterator[dict[str, str]]:
    for line in files("rubricrm_export.calibrate").joinpath(name).read_text("utf-8").splitlines():
        yield json.loads(line)


def read_text(path: Path, tokenizer: Tokenizer, context_length: int, *, min_tokens: int, max_tokens: int) -> TokenText:
    """Read a file as sequences of 512 tokens, or of the model's context; control tokens that it spells stay text.

    A file called .jsonl holds an object a line, with a "text", or with a "request" and perhaps a "rubric"; any other
    file is text in UTF-8. A last sequence that is shorter is dropped, unless it is the only one. Of more than
    `max_tokens` the sequences that are used are spread evenly over the file.

    Args:
        path: The file.
        tokenizer: The model's own.
        context_length: The model's.
        min_tokens: Fewer are an error, but as many as the context always do.
        max_tokens: Most tokens to use.

    Raises:
        OptionInvalid: The file cannot be read, is not in that form, or holds too little text.
    """
    ids = tokenizer.encode(_file_text(path))
    window = min(WINDOW, context_length)
    least = min(min_tokens, context_length)
    if len(ids) < least:
        raise OptionInvalid(f"{path}: holds {len(ids)} tokens, expected at least {least}. Pass a longer text.")
    starts = range(0, max(len(ids) - window, 0) + 1, window)
    windows = [tuple(ids[start : start + window]) for start in starts]
    most = max(1, max_tokens // window)
    if len(windows) > most:
        logger.info("%s: %d of its %d sequences are used", path, most, len(windows))
        windows = [windows[number * len(windows) // most] for number in range(most)]
    return TokenText(path.name, (), tuple(windows))


def _file_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise OptionInvalid(
                f"{path}: has {path.stat().st_size} bytes, expected at most {_MAX_FILE_BYTES}. Pass a part of it: a "
                "few hundred kilobytes are enough."
            )
        contents = path.read_bytes()
    except OSError as error:
        raise OptionInvalid(f"{path}: cannot be read ({error.strerror}). Pass a file of text.") from error
    try:
        text = contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionInvalid(f"{path}: byte {error.start} is not UTF-8. Convert the file to UTF-8.") from error
    if path.suffix == ".jsonl":
        text = "\n\n".join(
            _line_text(line, f"{path}:{n}") for n, line in enumerate(text.split("\n"), 1) if line.strip()
        )
    if not text.strip():
        raise OptionInvalid(f"{path}: is empty. Pass a file of text.")
    return text


def _line_text(line: str, where: str) -> str:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise OptionInvalid(f"{where}: not JSON ({error}). Write one object a line.") from error
    keys = [key for key in ("text", "request", "rubric") if isinstance(entry, dict) and isinstance(entry.get(key), str)]
    if not {"text", "request"} & {*keys}:
        raise OptionInvalid(f'{where}: is {line[:60]!r}, expected an object with "text" or "request", a string.')
    return "\n\n".join(str(entry[key]) for key in keys)


def held_out_text(prompt: Prompt, tokenizer: Tokenizer, context_length: int, *, max_tokens: int) -> TokenText:
    """Return built-in requests and rubrics as the model sees them: its own prompt, then the rubric.

    Args:
        prompt: The model's.
        tokenizer: The model's.
        context_length: Longer sequences are left out.
        max_tokens: Later ones are left out when there are so many tokens.

    Raises:
        OptionInvalid: None fits.
    """
    prefix = tuple(prompt.fixed_prefix())
    sequences: list[tuple[int, ...]] = []
    for request, rubric in held_out_rubrics():
        try:
            ids = [*prompt.encode_request(request), *tokenizer.encode(rubric)]
        except RequestInvalid:  # a vocabulary that lacks some byte
            continue
        if len(ids) <= context_length:
            sequences.append(tuple(ids[len(prefix) :]))
    kept: list[tuple[int, ...]] = []
    count = len(prefix)
    for ids_after in sequences:
        count += len(ids_after)
        if count > max_tokens and kept:
            break
        kept.append(ids_after)
    if not kept:
        raise OptionInvalid("no built-in request fits the model's context. Pass a text: --eval-text FILE.")
    return TokenText(HELD_OUT, prefix, tuple(kept))


def self_text(bundle: Bundle, *, threads: int, on_progress: Callable[[int, int], None], num_requests: int) -> TokenText:
    """Let a model write rubrics for built-in requests: the text that it will really see.

    Every second one is sampled at temperature 0.8 with a fixed seed: greedy text repeats itself more than users'
    requests do. Requests that do not fit the model's context or vocabulary are left out.

    Args:
        bundle: Any bundle of the model, quantized or not.
        threads: Threads to compute with.
        on_progress: Gets how many requests are answered, and of how many.
        num_requests: How many.

    Raises:
        OptionInvalid: No request fits.
    """
    sequences: list[tuple[int, ...]] = []
    requests = builtin_requests()[:num_requests]
    with RequestWriter(bundle, threads=threads) as writer:
        prefix = tuple(writer.prefix)
        for number, request in enumerate(requests):
            on_progress(number, len(requests))
            options = GenerationOptions(temperature=0.8 * (number % 2), seed=number, max_new_tokens=_MAX_NEW_TOKENS)
            try:
                prompt_ids, written, _ = writer.write(request, options)
            except (RequestInvalid, PromptTooLong) as error:
                logger.info("calibration leaves out request %d: %s", number, error)
                continue
            sequences.append((*prompt_ids[len(prefix) :], *written))
    on_progress(len(requests), len(requests))
    if not sequences:
        raise OptionInvalid("no built-in request fits the model's context. Pass a text: --calibration FILE.")
    return TokenText(SELF, prefix, tuple(sequences))
