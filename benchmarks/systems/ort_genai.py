"""onnxruntime-genai with its own builder: INT4, INT8 activations in the products, past and present in one buffer.

Blocks of 32 are its default. `-pruned` computes the logits of a prompt's last token only (prune_lm_head).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol import main

# Its builder wants torch and transformers.
REQUIREMENTS = ("torch==2.13.0", "onnxruntime-genai==0.18.0", "transformers==5.14.1", "onnx-ir")
VARIANTS = {
    "int4-32": ["block_size=32"],
    "int4-128": ["block_size=128"],
    "int4-128-pruned": ["block_size=128", "prune_lm_head=true"],
}
_LENGTH = 1024  # of a generator that outlives a request


def prepare(checkpoint: Path, directory: Path, variant: str) -> None:
    """Build for the CPU with activations of INT8 in the products (accuracy level 4), as it recommends."""
    with tempfile.TemporaryDirectory() as cache:
        options = [*VARIANTS[variant], "accuracy_level=4"]
        command = [
            sys.executable,
            "-m",
            "onnxruntime_genai.models.builder",
            "-i",
            str(checkpoint),
            "-o",
            str(directory),
        ]
        subprocess.run([*command, "-p", "int4", "-e", "cpu", "-c", cache, "--extra_options", *options], check=True)
    _require_block_size(directory / "model.onnx", 32 if variant == "int4-32" else 128)


def _require_block_size(path: Path, expected: int) -> None:
    """Look at what was built: the builder says nothing about options that it does not know."""
    import onnx_ir

    graph = onnx_ir.load(path).graph
    found = {node.attributes["block_size"].as_int() for node in graph if node.op_type == "MatMulNBits"}
    if found != {expected}:
        raise SystemExit(f"{path}: has blocks of {sorted(found)}, expected {expected}")


class GenaiModel:
    """A model and the length that its buffers are made for."""

    def __init__(self, directory: Path, threads: int) -> None:
        import onnxruntime_genai as og

        path = directory / "genai_config.json"
        config = json.loads(path.read_text())
        config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
        path.write_text(json.dumps(config, indent=2))
        self._og = og
        self._model = og.Model(str(directory))
        self._kept: list[int] = []
        self._generator: Any = None

    def keep(self, ids: Sequence[int]) -> None:
        """See `protocol`: a generator that is rewound to the end of these ids."""
        if self._kept == list(ids):
            return
        self._kept, self._generator = list(ids), None
        if ids:
            self._generator = self._new_generator(_LENGTH)
            self._generator.append_tokens(self._kept)

    def _new_generator(self, length: int) -> Any:
        parameters = self._og.GeneratorParams(self._model)
        parameters.set_search_options(do_sample=False, min_length=length, max_length=length)
        return self._og.Generator(self._model, parameters)

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        generator = self._generator or self._new_generator(len(ids) + new_tokens)
        if self._kept:
            generator.rewind_to(len(self._kept))
        moments, tokens = [], []
        generator.append_tokens(list(ids[len(self._kept) :]))
        while len(tokens) < new_tokens:
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
            moments.append(time.perf_counter())
        return moments, tokens


def open_model(directory: Path, variant: str, threads: int) -> GenaiModel:  # noqa: ARG001
    """See `protocol`."""
    return GenaiModel(directory, threads)


if __name__ == "__main__":
    main(prepare, open_model)
