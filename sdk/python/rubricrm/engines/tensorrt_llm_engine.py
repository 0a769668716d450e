"""TensorRT-LLM's `LLM` in this process.

The interface was read at 1.2.0rc2 (llmapi/llm.py 4c05a748, sampling_params.py a98a9061, executor/result.py a678b91a),
llm_args.py at several versions up to main.
It was not run: no machine with its package was at hand.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from importlib import import_module
from typing import Any, Self

from rubricrm.engines.async_engine import EngineRequest, SeenText
from rubricrm.engines.engine_directory import EngineDirectory
from rubricrm.errors import BundleInvalid
from rubricrm.remote.completion_chunk import CompletionChunk

_CONFIG = "serve.yaml"


class TensorRTLLMEngine:
    """See `AsyncEngine`."""

    device = "cuda"

    def __init__(self, package: Any, llm: Any) -> None:
        self.name = f"TensorRT-LLM {package.__version__}"
        self._package = package
        self._guided_decoding = import_module("tensorrt_llm.llmapi").GuidedDecodingParams
        self._llm = llm

    @classmethod
    def open(cls, directory: EngineDirectory) -> Self:
        """Load the weights, as `trtllm-serve DIR --config serve.yaml` would.

        Raises:
            BundleInvalid: serve.yaml cannot be read.
            DependencyMissing: The package is not installed, or cannot be imported here.
        """
        package = directory.import_engine("tensorrt_llm")
        return cls(package, package.LLM(model=str(directory.path), **_arguments(directory)))

    def parameters(self, request: EngineRequest) -> Any:
        """As `AsyncEngine.parameters`. Stop strings are looked for in the text that comes back."""
        options = request.options
        return self._package.SamplingParams(
            end_id=request.stop_ids[0],
            pad_id=request.stop_ids[0],
            stop_token_ids=list(request.stop_ids),
            max_tokens=request.max_new_tokens,
            n=1,
            temperature=float(options.temperature),
            top_k=options.top_k,
            top_p=float(options.top_p),
            min_p=float(options.min_p),
            seed=request.seed,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            logprobs=None if options.logprobs is None else max(1, options.logprobs),
            guided_decoding=None if request.regex is None else self._guided_decoding(regex=request.regex),
            skip_special_tokens=True,
        )

    async def stream(self, request: EngineRequest, parameters: Any) -> AsyncGenerator[CompletionChunk]:
        """As `AsyncEngine.stream`. The engine gives one object again and again, which holds the text so far."""
        output = self._llm.generate_async(list(request.prompt_ids), sampling_params=parameters, streaming=True)
        seen = SeenText(request)
        try:
            async for result in output:
                yield seen.chunk(result.outputs[0], getattr(result, "cached_tokens", None))
        finally:
            if not output.finished:
                output.abort()

    def close(self) -> None:
        """As `AsyncEngine.close`."""
        self._llm.shutdown()


def _arguments(directory: EngineDirectory) -> dict[str, Any]:
    """Read serve.yaml, and make arguments of it by the function with which `trtllm-serve` does."""
    yaml, file = import_module("yaml"), directory.path / _CONFIG
    try:
        config = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BundleInvalid(f"{file}: cannot be read ({error}). Export the directory again.") from error
    if not isinstance(config, dict):
        raise BundleInvalid(f"{file}: holds {config!r:.80}, expected options by name. Export the directory again.")
    update = import_module("tensorrt_llm.llmapi.llm_args").update_llm_args_with_extra_dict
    return dict(update({}, config, str(file)))
