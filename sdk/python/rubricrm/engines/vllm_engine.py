"""vLLM's `AsyncLLM` in this process.

The interface was read at 0.32.0 (v1/engine/async_llm.py, sampling_params.py, engine/arg_utils.py, outputs.py). vLLM
computes in a process that it spawns, so a script needs `if __name__ == "__main__":`.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib import import_module
from typing import Any, Self

from rubricrm.engines.async_engine import EngineRequest, SeenText
from rubricrm.engines.engine_directory import EngineDirectory
from rubricrm.remote.completion_chunk import CompletionChunk


class VLLMEngine:
    """See `AsyncEngine`."""

    def __init__(self, package: Any, llm: Any) -> None:
        self.name = f"vLLM {package.__version__}"
        self.device = str(import_module("vllm.platforms").current_platform.device_type)
        self._package = package
        self._structured_outputs = import_module("vllm.sampling_params").StructuredOutputsParams
        self._llm = llm

    @classmethod
    def open(cls, directory: EngineDirectory) -> Self:
        """Load the weights, as `vllm serve` in build.sh would; `generation_config.json` decides nothing.

        Raises:
            DependencyMissing: The package is not installed, or cannot be imported here.
        """
        package = directory.import_engine("vllm")
        arguments = package.AsyncEngineArgs(
            model=str(directory.path),
            max_model_len=directory.max_seq_len,
            max_num_seqs=directory.max_batch_size,
            enable_prefix_caching=True,
            quantization="modelopt" if directory.algorithm else None,
            kv_cache_dtype="fp8" if directory.kv == "fp8" else "auto",
            scheduling_policy="priority",
            generation_config="vllm",
        )
        llm = import_module("vllm.v1.engine.async_llm").AsyncLLM.from_engine_args(arguments)
        return cls(package, llm)

    def parameters(self, request: EngineRequest) -> Any:
        """As `AsyncEngine.parameters`. Stop strings are looked for in the text that comes back."""
        options, regex = request.options, request.regex
        return self._package.SamplingParams(
            n=1,
            temperature=float(options.temperature),
            top_k=options.top_k,
            top_p=float(options.top_p),
            min_p=float(options.min_p),
            seed=request.seed,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            stop_token_ids=list(request.stop_ids),
            max_tokens=request.max_new_tokens,
            logprobs=options.logprobs,
            skip_special_tokens=True,
            structured_outputs=None if regex is None else self._structured_outputs(regex=regex),
        )

    async def stream(self, request: EngineRequest, parameters: Any) -> AsyncGenerator[CompletionChunk]:
        """As `AsyncEngine.stream`: each output holds the text so far, and closing vLLM's generator ends the request."""
        seen = SeenText(request)
        outputs = self._llm.generate(
            {"prompt_token_ids": list(request.prompt_ids)},
            parameters,
            request_id=uuid.uuid4().hex,
            priority=-request.options.priority,  # the lowest first
        )
        async with aclosing(outputs):
            async for result in outputs:
                yield seen.chunk(result.outputs[0], result.num_cached_tokens)

    def close(self) -> None:
        """As `AsyncEngine.close`."""
        self._llm.shutdown()
