"""What chooses tokens in librubricrm, for tests that compare it with Python: choose_stream of a native build."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rubricrm.generation.grammar import Grammar
from rubricrm.runtime.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("RUBRICRM_NATIVE_BUILD", ROOT / "build" / "native" / "release"))
STREAM = BUILD / "tests" / "cpp" / "choose_stream"
DEMO = ROOT / "sdk" / "python" / "rubricrm" / "demo_bundle"
STOP_IDS = [2043, 2045]

Request = dict[str, Any]


@cache
def tokenizer() -> Tokenizer:
    """The demo bundle's."""
    return Tokenizer.from_file(DEMO / "tokenizer.json")


@cache
def grammar() -> Grammar:
    """The demo bundle's form of rubrics."""
    return Grammar.load(DEMO / "grammar.npz", tokenizer().num_tokens, STOP_IDS)


def uniforms(seed: int, count: int) -> NDArray[np.uint64]:
    """The uniform numbers of a seed, as `sampling.uniform`."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return (z ^ z >> np.uint64(31)) >> np.uint64(11)


def made_row(made: dict[str, Any]) -> NDArray[np.float32]:
    """A row of logits from a few numbers: see tests/cases/sampling/README.md."""
    values = (uniforms(made["seed"], made["count"]) / 2.0**52 - 1) * made["scale"]
    if made.get("levels"):
        values = np.floor(values * made["levels"]) / made["levels"]
    row = values.astype(np.float32)
    for at in uniforms(made["seed"] + 1, made.get("peaks", 0)) % np.uint64(made["count"]):
        row[at] += np.float32(made["scale"])
    return row


@cache
def open_requests() -> tuple[Request, ...]:
    """What every process is asked first: to take the demo bundle's tokens and form."""
    texts = {
        "do": "texts",
        "bytes": [spelling.hex() for spelling in tokenizer().spellings()],
        "special": sorted(tokenizer().special_ids),
        "numbers": [tokenizer().encode(str(number)) for number in range(100)],
    }
    path, num_tokens = str(DEMO / "grammar.npz"), tokenizer().num_tokens
    return texts, {"do": "grammar", "path": path, "num_tokens": num_tokens, "stop_ids": STOP_IDS}


def ask(requests: Iterable[Request]) -> list[Any]:
    """What is answered to each request."""
    lines = "".join(json.dumps(request) + "\n" for request in [*open_requests(), *requests])
    answer = subprocess.run([STREAM], input=lines.encode(), stdout=-1, check=True).stdout
    return [json.loads(line) for line in answer.splitlines()][len(open_requests()) :]


def check(requests: list[Request], expected: Callable[[Request], Any]) -> None:
    """Expect the same answers as a function gives."""
    for request, found in zip(requests, ask(requests), strict=True):
        assert found == expected(request), request
