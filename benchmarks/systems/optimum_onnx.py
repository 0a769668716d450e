"""optimum-onnx's ORTModelForCausalLM, as it exports and runs a checkpoint by itself: no INT4.

Its export in BF16 fails ("ScalarType ComplexDouble is an unexpected tensor scalar type"). Its empty cache of a Qwen3
has another head_dim than its graph ("past_key_values ... index: 3 Got: 80 Expected: 128"): it is told the right one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol import main

REQUIREMENTS = ("torch==2.13.0", "optimum-onnx[onnxruntime]==0.1.0", "transformers==4.57.6")
VARIANTS = {"fp32": "fp32", "fp16": "fp16"}


def prepare(checkpoint: Path, directory: Path, variant: str) -> None:
    """Export with its own command."""
    from optimum.exporters.onnx import main_export

    main_export(str(checkpoint), output=directory, task="text-generation-with-past", dtype=VARIANTS[variant])


class OptimumModel:
    """Its model class, and a loop of its own: `generate` would add work around each token."""

    def __init__(self, directory: Path, threads: int) -> None:
        import onnxruntime
        import torch
        from optimum.onnxruntime import ORTModelForCausalLM

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._torch = torch
        self._kept: list[int] = []
        self._past: Any = None
        self._model = ORTModelForCausalLM.from_pretrained(directory, session_options=options)
        config = self._model.config
        self._model.embed_size_per_head = getattr(config, "head_dim", self._model.embed_size_per_head)

    def keep(self, ids: Sequence[int]) -> None:
        """See `protocol`: its keys and values are tensors that nothing changes."""
        if self._kept != list(ids):
            self._kept = list(ids)
            self._past = self._step(self._kept, None, 0).past_key_values if ids else None

    def _step(self, ids: Sequence[int], past: Any, length: int) -> Any:
        """Run ids that come after `length` others."""
        torch, total = self._torch, length + len(ids)
        return self._model(
            torch.tensor([list(ids)]),
            attention_mask=torch.ones((1, total), dtype=torch.int64),
            position_ids=torch.arange(length, total)[None],
            past_key_values=past,
        )

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        moments, tokens = [], []
        step, past, length = list(ids[len(self._kept) :]), self._past, len(self._kept)
        while len(tokens) < new_tokens:
            found = self._step(step, past, length)
            past, length = found.past_key_values, length + len(step)
            tokens.append(int(found.logits[0, -1].argmax()))
            moments.append(time.perf_counter())
            step = tokens[-1:]
        return moments, tokens


def open_model(directory: Path, variant: str, threads: int) -> OptimumModel:  # noqa: ARG001
    """See `protocol`."""
    return OptimumModel(directory, threads)


if __name__ == "__main__":
    main(prepare, open_model)
