"""The SDK's engine as it is; prompts are ids, and nothing is restored but what was asked for.

`-avx2` forces our kernels of that instruction set, and `-off` runs ONNX Runtime's own, from the same bundle.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol import main

REQUIREMENTS = ("{root}[cpu,export]",)
_EXPORTS = {
    "int4-128": ["--weights", "int4", "--block-size", "128", "--method", "rtn"],
    "int4-128-head-128": ["--weights", "int4", "--method", "rtn", "--head-block-size", "128"],
    "int4-32": ["--weights", "int4", "--block-size", "32", "--method", "rtn"],
    "int8": ["--weights", "int8", "--method", "rtn"],
}
# What RUBRICRM_KERNELS says; None: nothing, so that the processor's best kernels run.
VARIANTS: dict[str, str | None] = {**dict.fromkeys(_EXPORTS), "int4-128-avx2": "avx2", "int4-128-off": "off"}
MODEL_OF = {variant: "ours:int4-128" for variant, kernels in VARIANTS.items() if kernels}


def prepare(checkpoint: Path, directory: Path, variant: str) -> None:
    """Export, whatever is lost: the checkpoint may be random, and the loss is not what is compared here."""
    from rubricrm.cli import cli

    words = ["export", "onnx", str(checkpoint), "-o", str(directory), "--no-rubrics", "--max-kl", "none", "--force"]
    words += _EXPORTS[variant]
    cli.main(words, standalone_mode=False)


class OurModel:
    """The engine of a bundle whose answers do not end.

    Attributes:
        runs: The graph, and the instructions of our kernels.
    """

    def __init__(self, directory: Path, threads: int) -> None:
        from rubricrm.generation.engine import Engine
        from rubricrm.generation.engine_options import EngineOptions
        from rubricrm.runtime.bundle import Bundle
        from rubricrm.runtime.session import Session
        from rubricrm_bench.workload import without_stops

        bundle = without_stops(Bundle.open(directory))
        self._session, self._manifest = Session(bundle, threads=threads), bundle.manifest
        self.runs = _what_runs(self._session)
        self._kept: list[int] = []
        self._engine = Engine(self._session, self._manifest, None, EngineOptions(keep_prompts=False))

    def keep(self, ids: Sequence[int]) -> None:
        """See `protocol`."""
        from rubricrm.generation.engine import Engine
        from rubricrm.generation.engine_options import EngineOptions
        from rubricrm.runtime.prefix import compute_prefix

        if self._kept != list(ids):
            self._kept = list(ids)
            prefix = compute_prefix(self._session, self._kept) if ids else None
            self._engine = Engine(self._session, self._manifest, prefix, EngineOptions(keep_prompts=False))

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        from rubricrm.generation.options import GenerationOptions

        sequence = self._engine.submit(list(ids), GenerationOptions(max_new_tokens=new_tokens))
        moments: list[float] = []
        for count in range(new_tokens):
            sequence.wait(lambda count=count: len(sequence.token_ids) > count)
            moments.append(time.perf_counter())
        sequence.raise_error()
        return moments, sequence.token_ids


def _what_runs(session: Any) -> str:
    found = None if session.kernels is None else session.kernels.instruction_set
    wanted = os.environ.get("RUBRICRM_KERNELS")
    if wanted not in (None, "off", found):
        raise SystemExit(f"kernels of {wanted} were asked for, and {found or 'none of ours'} would run")
    return f"{session.facts.file} with " + (f"our kernels ({found})" if found else "ONNX Runtime's kernels")


def open_model(directory: Path, variant: str, threads: int) -> OurModel:
    """See `protocol`. The first opening without our kernels derives the data of ONNX Runtime's own into the cache."""
    os.environ["RUBRICRM_CACHE"] = str(directory.parent / "cache")
    if kernels := VARIANTS[variant]:
        os.environ["RUBRICRM_KERNELS"] = kernels
    return OurModel(directory, threads)


if __name__ == "__main__":
    main(prepare, open_model)
