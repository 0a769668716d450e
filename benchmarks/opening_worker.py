#!/usr/bin/env python3
"""A process of opening.py: opens a bundle in parts or as a whole and prints the figures; then the memory it shares."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Print one line, and one more for each line of standard input."""
    kind, path, threads, request = sys.argv[1:]
    kept, figures = {"parts": open_parts, "whole": open_whole}[kind](Path(path), int(threads), request)
    print(json.dumps(figures), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"pss_mb": pss_mb()}), flush=True)
    del kept


def open_parts(path: Path, threads: int, _: str) -> tuple[Any, dict[str, Any]]:
    """Open one part after another."""
    parts: list[dict[str, Any]] = []

    def timed(name: str, part: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        made = part()
        parts.append({"name": name, "ms": since(started), "anonymous_mb": anonymous_mb()})
        return made

    timed("imports", import_packages)
    from rubricrm.runtime.bundle import Bundle
    from rubricrm.runtime.prefix import kept_prefix, open_prefix
    from rubricrm.runtime.prompt import Prompt
    from rubricrm.runtime.session import Session
    from rubricrm.runtime.tokenizer import Tokenizer

    bundle = timed("manifest", lambda: Bundle.open(path))
    facts = bundle.manifest
    session = timed("session", lambda: Session(bundle, threads=threads))
    tokenizer = timed("tokenizer", lambda: Tokenizer.from_file(bundle.file(facts.tokenizer.file)))
    prompt = Prompt(facts.prompt, facts.chat, tokenizer)
    prefix = timed("prefix", lambda: open_prefix(bundle, session, prompt.fixed_prefix(), kept_prefix(bundle, session)))
    return (session, prompt, prefix), {"parts": parts}


def import_packages() -> None:
    """Import what opening needs."""
    import numpy  # noqa: F401
    import safetensors  # noqa: F401
    import tokenizers  # noqa: F401
    from rubricrm import RubricModel  # noqa: F401
    from rubricrm.runtime.graph import import_onnxruntime

    import_onnxruntime()


def open_whole(path: Path, threads: int, request: str) -> tuple[Any, dict[str, Any]]:
    """Open a model as a user does, and answer with one token."""
    started = time.perf_counter()
    from rubricrm import RubricModel  # as a user's program does, and a part of the time

    model = RubricModel.open(path, threads=threads)
    figures = {"open_ms": since(started), "anonymous_mb": anonymous_mb()}
    result = model.generate(request, max_new_tokens=1)
    figures["first_token_at"] = time.monotonic()
    figures |= {"prefill_ms": result.timings_ms.prefill, "pss_mb": pss_mb()}
    usage = {"prompt_tokens": result.usage.prompt_tokens, "cached_prompt_tokens": result.usage.cached_prompt_tokens}
    return model, figures | usage | {"model": result.model}


def since(started: float) -> float:
    """Return milliseconds."""
    return 1e3 * (time.perf_counter() - started)


def anonymous_mb() -> float:
    """Return the memory that belongs to this process alone and to no file."""
    return kilobytes("/proc/self/status", "RssAnon:") / 1e3 * 1.024


def pss_mb() -> float:
    """Return this process's share of all memory that it has mapped: a page that two have counts half for each."""
    return kilobytes("/proc/self/smaps_rollup", "Pss:") / 1e3 * 1.024


def kilobytes(file: str, name: str) -> int:
    """Return the number of a line in a file of the kernel's."""
    (words,) = (line.split() for line in Path(file).read_text().splitlines() if line.startswith(name))
    return int(words[1])


if __name__ == "__main__":
    main()
