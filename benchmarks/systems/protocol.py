"""What every system under comparison does, and how it is told: standard library only, for any environment.

A system is a file beside this one with REQUIREMENTS (pins), VARIANTS (names of its settings) and two functions:

    prepare(checkpoint, directory, variant)      convert the checkpoint, once
    open_model(directory, variant, threads)      return an object with run(ids, new_tokens) -> list of times

MODEL_OF names, for variants that convert nothing themselves, the contender whose converted model they run:
`{"q4_0": "llama_cpp_python:q4_0"}`. A system whose variants all do so needs no `prepare`. BUILD holds environment
variables for the installation of the pins, such as flags of a compiler. DRAFTING maps variants that verify drafts to
how they make them; what `run` then takes depends on the text.

`run` feeds the ids as they are, generates exactly `new_tokens` tokens greedily, end tokens or not, and returns the
moments of the tokens (seconds, `time.perf_counter`), at least of the first and of the last, and the tokens.

A model that can keep the state of a prompt has `keep(ids)` too: it computes the state, or forgets it for no ids; a
later `run` restores it, in the fastest way that the system has. One that others are compared with has
`best(ids, count)`: the likeliest next tokens. One that chooses its code by the processor has `runs`: which code that is
here, in words. One that drafts has `follow(text)`: the next `run` writes these tokens in place of the model's choices,
all of whose work is still done; `drafts` then holds how many tokens were drafted and accepted.

The file ends with `main(...)`: run as a program it prepares, or answers lines of JSON on standard input with lines of
JSON on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol


class Model(Protocol):
    """An open model."""

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """Return the moments of the new tokens, at least of the first and of the last, and the tokens."""
        ...


def main(prepare: Callable[[Path, Path, str], None] | None, open_model: Callable[[Path, str, int], Model]) -> None:
    """Do what the command line says: `prepare CHECKPOINT DIRECTORY VARIANT` or `serve DIRECTORY VARIANT THREADS`."""
    command, *words = sys.argv[1:]
    if command == "prepare":
        assert prepare is not None
        prepare(Path(words[0]), Path(words[1]), words[2])
        return
    directory, variant, threads = Path(words[0]), words[1], int(words[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    started = time.perf_counter()
    model = open_model(directory, variant, threads)
    loaded = 1000 * (time.perf_counter() - started)
    _answer(answers, {"load_ms": loaded, "runs": getattr(model, "runs", None)})
    for line in sys.stdin:
        asked = json.loads(line)
        if "best" in asked:
            _answer(answers, {"best": model.best(asked["ids"], asked["best"])})  # type: ignore[attr-defined]
            continue
        if not hasattr(model, "keep"):
            if asked["kept"]:
                _answer(answers, {"error": "keeps no state of a prompt here"})
                continue
        else:
            model.keep(asked["ids"][: asked["kept"]])
        if asked.get("text"):
            model.follow(asked["text"])  # type: ignore[attr-defined]
        started = time.perf_counter()
        moments, tokens = model.run(asked["ids"], asked["new_tokens"])
        times = [1000 * (moment - started) for moment in moments]
        found = {"ttft_ms": times[0], "e2e_ms": times[-1], "tokens": tokens, "peak_rss_bytes": _peak_rss()}
        _answer(answers, found | {"drafts": getattr(model, "drafts", None)})


def _answer(stream: Any, document: dict[str, Any]) -> None:
    stream.write(json.dumps(document) + "\n")
    stream.flush()


def _peak_rss() -> int:
    """Return the most bytes that this process had in memory; what getrusage says includes its parent's at the start."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
