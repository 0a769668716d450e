"""optimum-onnx's ORTModelForCausalLM, as it exports and runs a checkpoint by itself: no INT4.

Its export in BF16 fails ("ScalarType ComplexDouble is an unexpected tensor scalar type").
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

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
        self._model = ORTModelForCausalLM.from_pretrained(directory, session_options=options)

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        torch = self._torch
        moments, tokens = [], []
        step, past, length = torch.tensor([list(ids)]), None, len(ids)
        while len(tokens) < new_tokens:
            mask = torch.ones((1, length), dtype=torch.int64)
            positions = torch.arange(length - step.shape[1], length)[None]
            found = self._model(step, attention_mask=mask, position_ids=positions, past_key_values=past)
            past = found.past_key_values
            tokens.append(int(found.logits[0, -1].argmax()))
            moments.append(time.perf_counter())
            step, length = torch.tensor([tokens[-1:]]), length + 1
        return moments, tokens


def open_model(directory: Path, variant: str, threads: int) -> OptimumModel:  # noqa: ARG001
    """See `protocol`."""
    return OptimumModel(directory, threads)


if __name__ == "__main__":
    main(prepare, open_model)
