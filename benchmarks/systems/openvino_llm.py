"""OpenVINO GenAI's LLMPipeline on the CPU, with its defaults: prefix caching, keys and values in INT8, latency hint.

`int4-128` are converted by optimum-intel, as its documentation recommends: INT4 in groups of 128, embedding and head
too; `-sym` stores no zero points. `q4_0` and `q4_k_m` are the GGUF files that llama.cpp runs. `-dq128` quantizes
activations in groups of 128 instead of 32 (DYNAMIC_QUANTIZATION_GROUP_SIZE). Where products run in BF16 on AMX they are
not quantized at all, whatever the groups are; `-f32` asks for float32, with which they are (INFERENCE_PRECISION_HINT).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol import main

REQUIREMENTS = (
    "openvino-genai==2026.4.1.0",
    "openvino-tokenizers==2026.4.1.0",
    "numpy>=2",
    # They convert: torch and transformers come with them.
    "optimum-intel==2.2.0",
    "nncf==3.4.0",
    "torch==2.13.0",
)
_GROUPS_OF_128 = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}
VARIANTS: dict[str, dict[str, Any]] = {
    "int4-128": {},
    "int4-128-dq128": _GROUPS_OF_128,
    "int4-128-f32-dq128": _GROUPS_OF_128 | {"INFERENCE_PRECISION_HINT": "f32"},
    "int4-128-sym-dq128": _GROUPS_OF_128,
    "q4_0": {},
    "q4_0-dq128": _GROUPS_OF_128,
    "q4_k_m": {},
}
MODEL_OF = {
    "int4-128-dq128": "openvino_llm:int4-128",
    "int4-128-f32-dq128": "openvino_llm:int4-128",
    "q4_0": "llama_cpp_python:q4_0",
    "q4_0-dq128": "llama_cpp_python:q4_0",
    "q4_k_m": "llama_cpp_python:q4_k_m",
}
# Matrices whose inputs 128 does not divide get the largest group that does.
_EXPORT = (
    *("--task", "text-generation-with-past", "--disable-convert-tokenizer"),
    *("--weight-format", "int4", "--group-size", "128", "--group-size-fallback", "adjust", "--all-layers"),
)


def prepare(checkpoint: Path, directory: Path, variant: str) -> None:
    """Convert by its documented command, in this process."""
    # It asks for torchvision, which a text model does not need and which may be of another build than torch.
    sys.modules["torchvision"] = None  # type: ignore[assignment]
    from optimum.commands.optimum_cli import main as optimum_cli

    symmetric = ["--sym"] if "-sym" in variant else []
    sys.argv = ["optimum-cli", "export", "openvino", "-m", str(checkpoint), *_EXPORT, *symmetric, str(directory)]
    optimum_cli()


class OpenVinoModel:
    """A pipeline; tokens are counted as they come.

    Attributes:
        runs: The numbers that products run in, which depend on the processor.
    """

    def __init__(self, path: Path, threads: int, properties: dict[str, Any]) -> None:
        import numpy as np
        import openvino as ov
        import openvino_genai as genai

        self._numpy, self._ov, self._genai = np, ov, genai
        self._pipeline = genai.LLMPipeline(str(path), "CPU", INFERENCE_NUM_THREADS=threads, **properties)
        self.runs = _what_runs(ov.Core(), properties)

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


def _what_runs(core: Any, properties: dict[str, Any]) -> str:
    """Tell the pipeline's properties: it has no function that does."""
    core.set_property("CPU", properties)
    precision = core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
    return f"in {precision}, groups of {core.get_property('CPU', 'DYNAMIC_QUANTIZATION_GROUP_SIZE')}"


def open_model(directory: Path, variant: str, threads: int) -> OpenVinoModel:
    """See `protocol`."""
    gguf = directory / "model.gguf"
    return OpenVinoModel(gguf if gguf.is_file() else directory, threads, VARIANTS[variant])


if __name__ == "__main__":
    main(prepare, open_model)
