"""transformers on the CPU in BF16: what people have before they optimize anything.

`-compiled` is what its documentation recommends for speed: torch.compile over a cache of fixed length.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol import main

REQUIREMENTS = ("torch==2.13.0", "transformers==5.14.1")
VARIANTS = ("bf16", "bf16-compiled")
MODEL_OF = {"bf16-compiled": "transformers_bf16:bf16"}
_CONTEXT = 1024


def prepare(checkpoint: Path, directory: Path, variant: str) -> None:  # noqa: ARG001
    """Point to the checkpoint's files."""
    directory.mkdir(parents=True)
    for path in checkpoint.resolve().iterdir():
        (directory / path.name).symlink_to(path)


class TransformersModel:
    """A model, and a loop of its own: `generate` would add work around each token."""

    def __init__(self, checkpoint: str, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch = torch
        self._kept: list[int] = []
        self._past: Any = None
        self._model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).eval()

    def best(self, ids: Sequence[int], count: int) -> list[int]:
        """See `protocol`."""
        with self._torch.inference_mode():
            logits = self._model(self._torch.tensor([list(ids)]), logits_to_keep=1).logits[0, -1]
        return [int(token) for token in logits.topk(count).indices]

    def keep(self, ids: Sequence[int]) -> None:
        """See `protocol`: a cache that is cut to the end of these ids."""
        if not ids:
            self._past = None
        elif self._kept == list(ids):
            self._past.crop(len(ids))
        else:
            with self._torch.inference_mode():
                found = self._model(self._torch.tensor([list(ids)]), use_cache=True, logits_to_keep=1)
            self._past = found.past_key_values
        self._kept = list(ids)

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        moments, tokens = [], []
        step, past = self._torch.tensor([list(ids[len(self._kept) :])]), self._past
        with self._torch.inference_mode():
            while len(tokens) < new_tokens:
                found = self._model(step, past_key_values=past, use_cache=True, logits_to_keep=1)
                past = found.past_key_values
                tokens.append(int(found.logits[0, -1].argmax()))
                moments.append(time.perf_counter())
                step = self._torch.tensor([tokens[-1:]])
        return moments, tokens


class CompiledModel:
    """Code is compiled when a shape first comes, in the pair that warms up. It keeps no state of a prompt here."""

    def __init__(self, checkpoint: str, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, StaticCache

        torch.set_num_threads(threads)
        self._torch, self._new_cache = torch, StaticCache
        self._model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).eval()
        self._model.forward = torch.compile(self._model.forward, fullgraph=True)

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        moments, tokens = [], []
        step = self._torch.tensor([list(ids)])
        past = self._new_cache(config=self._model.config, max_cache_len=_CONTEXT)
        with self._torch.inference_mode():
            while len(tokens) < new_tokens:
                found = self._model(step, past_key_values=past, use_cache=True, logits_to_keep=1)
                tokens.append(int(found.logits[0, -1].argmax()))
                moments.append(time.perf_counter())
                step = self._torch.tensor([tokens[-1:]])
        return moments, tokens


def open_model(directory: Path, variant: str, threads: int) -> TransformersModel | CompiledModel:
    """See `protocol`."""
    kind = CompiledModel if variant == "bf16-compiled" else TransformersModel
    return kind(str(directory), threads)


if __name__ == "__main__":
    main(prepare, open_model)
