"""OpenVINO GenAI on the CPU, from the GGUF that llama.cpp runs, with its defaults (prefix caching among them).

Prepare `llama_cpp_python` with the same variant first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol import main

REQUIREMENTS = ("openvino-genai==2026.4.1.0", "openvino-tokenizers==2026.4.1.0", "numpy>=2")
VARIANTS = {"q4_0": "q4_0", "q4_k_m": "q4_k_m"}


def prepare(checkpoint: Path, directory: Path, variant: str) -> None:  # noqa: ARG001
    """Share the other system's file."""
    source = directory.parent / f"llama_cpp_python-{variant}" / "model.gguf"
    if not source.is_file():
        raise SystemExit(f"{source}: is missing. Prepare llama_cpp_python:{variant} first.")
    directory.mkdir(parents=True)
    os.link(source, directory / "model.gguf")


class OpenVinoModel:
    """A pipeline; tokens are counted as they come."""

    def __init__(self, path: Path, threads: int) -> None:
        import numpy as np
        import openvino as ov
        import openvino_genai as genai

        self._numpy, self._ov, self._genai = np, ov, genai
        self._pipeline = genai.LLMPipeline(str(path), "CPU", INFERENCE_NUM_THREADS=threads)

    def keep(self, ids: Sequence[int]) -> None:
        """See `protocol`: it finds what it has seen by itself, and cannot be told to forget it."""
        if ids:
            self.run(ids, 1)

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        genai = self._genai
        moments: list[float] = []
        tokens: list[int] = []

        class Counter(genai.StreamerBase):  # type: ignore[misc]  # the module has no types here
            def write(self, token: Any) -> Any:
                now = time.perf_counter()
                for one in token if isinstance(token, list) else [token]:
                    moments.append(now)
                    tokens.append(int(one))
                return genai.StreamingStatus.RUNNING

            def end(self) -> None:
                pass

        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = new_tokens, True, False
        given = self._numpy.array([list(ids)], self._numpy.int64)
        inputs = genai.TokenizedInputs(self._ov.Tensor(given), self._ov.Tensor(self._numpy.ones_like(given)))
        self._pipeline.generate(inputs, config, Counter())
        return moments, tokens


def open_model(directory: Path, variant: str, threads: int) -> OpenVinoModel:  # noqa: ARG001
    """See `protocol`."""
    return OpenVinoModel(directory / "model.gguf", threads)


if __name__ == "__main__":
    main(prepare, open_model)
