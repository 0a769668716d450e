"""The SDK's engine as it is; prompts are ids, and nothing is restored but what was asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from protocol import main

REQUIREMENTS = ("-e", "{root}[cpu,export]")
VARIANTS = {
    "int4-128": ["--weights", "int4", "--block-size", "128", "--method", "rtn"],
    "int4-128-head-128": ["--weights", "int4", "--method", "rtn", "--head-block-size", "128"],
    "int4-32": ["--weights", "int4", "--block-size", "32", "--method", "rtn"],
    "int8": ["--weights", "int8", "--method", "rtn"],
}


def prepare(checkpoint: Path, directory: Path, variant: str) -> None:
    """Export, whatever is lost: the checkpoint may be random, and the loss is not what is compared here."""
    from rubricrm.cli import cli

    words = ["export", "onnx", str(checkpoint), "-o", str(directory), "--no-rubrics", "--max-kl", "none", "--force"]
    words += VARIANTS[variant]
    cli.main(words, standalone_mode=False)


class OurModel:
    """The engine of a bundle whose answers do not end."""

    def __init__(self, directory: Path, threads: int) -> None:
        from rubricrm.generation.engine import Engine
        from rubricrm.runtime.bundle import Bundle
        from rubricrm.runtime.session import Session
        from rubricrm_bench.workload import without_stops

        bundle = without_stops(Bundle.open(directory))
        self._session, self._manifest = Session(bundle, threads=threads), bundle.manifest
        self._kept: list[int] = []
        self._engine = Engine(self._session, self._manifest, None)

    def keep(self, ids: Sequence[int]) -> None:
        """See `protocol`."""
        from rubricrm.generation.engine import Engine
        from rubricrm.runtime.prefix import compute_prefix

        if self._kept != list(ids):
            self._kept = list(ids)
            prefix = compute_prefix(self._session, self._kept) if ids else None
            self._engine = Engine(self._session, self._manifest, prefix)

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        from rubricrm.generation.options import GenerationOptions

        generation = self._engine.submit(ids, GenerationOptions(max_new_tokens=new_tokens))
        moments, tokens = [], []
        for token in self._engine.stream(generation):
            moments.append(time.perf_counter())
            tokens.append(token.id)
        return moments, tokens


def open_model(directory: Path, variant: str, threads: int) -> OurModel:  # noqa: ARG001
    """See `protocol`."""
    return OurModel(directory, threads)


if __name__ == "__main__":
    main(prepare, open_model)
