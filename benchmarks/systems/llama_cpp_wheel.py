"""llama.cpp as pip installs it without a compiler: the xllamacpp wheel, a newer llama.cpp built for any AVX2 processor.

It runs the GGUF of `llama_cpp_python` by the server inside the wheel, with the same settings: weights repacked, the
prompt in one batch, keys and values in FP16, flash attention. The first token's time is from the request to the end
less what the server says of the other tokens.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol import main

REQUIREMENTS = ("xllamacpp==2026.10.11549",)
VARIANTS = ("q4_0", "q4_k_m")
MODEL_OF = {variant: f"llama_cpp_python:{variant}" for variant in VARIANTS}
_CONTEXT = 1024


class LlamaServer:
    """A server with one slot, inside this process. It restores what begins the prompt before, if it is told to.

    Attributes:
        runs: The instructions and features that the wheel was built with.
    """

    def __init__(self, path: Path, threads: int) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch, parameters.n_parallel = _CONTEXT, 512, 512, 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.cache_ram_mib = 0  # copies of older prompts, which nothing here asks for
        parameters.verbosity = 0
        self._server = xllamacpp.Server(parameters)
        self.runs = ", ".join(re.findall(r"(\w+) = 1", xllamacpp.get_system_info()))
        self._kept: list[int] = []

    def keep(self, ids: Sequence[int]) -> None:
        """See `protocol`: its slot still holds the prompt before, whose beginning is then restored."""
        if ids and self._kept != list(ids):
            self._complete(ids, 0, restore=False)
        self._kept = list(ids)

    def run(self, ids: Sequence[int], new_tokens: int) -> tuple[list[float], list[int]]:
        """See `protocol`."""
        answer = self._complete(ids, new_tokens, restore=bool(self._kept))
        end = time.perf_counter()
        return [end - answer["timings"]["predicted_ms"] / 1000, end], answer["tokens"]

    def _complete(self, ids: Sequence[int], new_tokens: int, *, restore: bool) -> Any:
        """Ask over HTTP: the function of the wheel that answers names no ids."""
        asked = {
            "prompt": list(ids),
            "n_predict": new_tokens,
            "samplers": ["top_k"],
            "top_k": 1,
            "ignore_eos": True,
            "return_tokens": True,
            "cache_prompt": restore,
        }
        request = urllib.request.Request(
            f"{self._server.listening_address}/completion",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)


def open_model(directory: Path, variant: str, threads: int) -> LlamaServer:  # noqa: ARG001
    """See `protocol`."""
    return LlamaServer(directory / "model.gguf", threads)


if __name__ == "__main__":
    main(None, open_model)
