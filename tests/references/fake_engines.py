"""vLLM and TensorRT-LLM as this package calls them: their signatures as they were read, and scripted texts.

TensorRT-LLM at 1.2.0rc2 (llmapi/llm.py 4c05a748, sampling_params.py a98a9061, executor/result.py a678b91a), vLLM at
0.32.0. An argument that the real one does not have is a TypeError here too.
"""

# ruff: noqa: ARG002, ARG003, C901 - the signatures are those of others, each fake in one piece
from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

RUBRIC = "1. The response is short. [Hard Rule]\n2. The response is kind. [Principle]\n"
# What is written: pieces of text, seconds to wait, an error; then the reason of the end.
Script = Callable[[Any], tuple[list[str | float | Exception], str | None]]


def whole(_: Any) -> tuple[list[str | float | Exception], str | None]:
    """A rubric, a word a token, that ends as it should."""
    return re.findall(r"\S+\s*", RUBRIC), "stop"


@dataclass
class Told:
    """What a fake was asked, and what it writes."""

    script: Script = whole
    holds: bool = True
    cached_tokens: int = 3
    opened: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    num_aborted: int = 0
    num_closed: int = 0
    load_error: Exception | None = None

    def writes(self, parameters: Any, regex: str | None) -> tuple[list[str | float | Exception], str | None]:
        """A trial is answered as a sound engine does."""
        if regex is not None and "Held: " in regex:
            return (["Held: ", "42"] if self.holds else ["Nonsense."]), "stop"
        return self.script(parameters)


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None


@dataclass
class CompletionOutput:
    """What both engines' outputs have in common: the text so far."""

    index: int = 0
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def add(self, piece: str, num_logprobs: int | None) -> None:
        token_id = 10 + len(self.token_ids)
        self.text += piece
        self.token_ids.append(token_id)
        if num_logprobs is not None:
            others = {token_id + 1 + n: Logprob(-1.0 - n, n + 2) for n in range(num_logprobs)}
            self.logprobs = [*(self.logprobs or []), {token_id: Logprob(-0.5, 1), **others}]


async def _next(step: str | float | Exception) -> str | None:
    if isinstance(step, Exception):
        raise step
    if isinstance(step, float):
        await asyncio.sleep(step)
        return None
    await asyncio.sleep(0)
    return step


def _updated(
    llm_args: dict[str, Any], llm_args_dict: dict[str, Any], extra_llm_api_options: str | None = None
) -> dict[str, Any]:
    """As trtllm-serve reads a file of options: some become objects, here marked."""
    assert extra_llm_api_options is not None
    return llm_args | llm_args_dict | {"kv_cache_config": ("KvCacheConfig", llm_args_dict["kv_cache_config"])}


def install_tensorrt_llm(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Put a fake `tensorrt_llm` in the place of the package."""
    told = Told()

    @dataclass(slots=True, kw_only=True)
    class GuidedDecodingParams:
        json: Any = None
        regex: str | None = None
        grammar: str | None = None
        json_object: bool = False
        structural_tag: str | None = None

    @dataclass(slots=True, kw_only=True)
    class SamplingParams:
        end_id: int | None = None
        pad_id: int | None = None
        max_tokens: int = 32
        stop: Any = None
        stop_token_ids: list[int] | None = None
        n: int = 1
        best_of: int | None = None
        top_k: int | None = None
        top_p: float | None = None
        min_p: float | None = None
        seed: int | None = None
        temperature: float | None = None
        repetition_penalty: float | None = None
        presence_penalty: float | None = None
        frequency_penalty: float | None = None
        logprobs: int | None = None
        guided_decoding: GuidedDecodingParams | None = None
        ignore_eos: bool = False
        skip_special_tokens: bool = True

        def __post_init__(self) -> None:
            if self.top_k is not None and self.top_k < 0:
                raise ValueError(f"require top_k >= 0, got top_k={self.top_k}")

    class RequestOutput:
        """The same object at each step, as the real one."""

        def __init__(self, parameters: SamplingParams) -> None:
            asyncio.get_running_loop()  # its queue is the loop's
            self.outputs = [CompletionOutput(logprobs=[])]
            self.finished = False
            self.cached_tokens = told.cached_tokens
            self._parameters = parameters
            guided = parameters.guided_decoding
            self._steps, self._reason = told.writes(parameters, guided and guided.regex)

        def __aiter__(self) -> RequestOutput:
            return self

        async def __anext__(self) -> RequestOutput:
            if self.finished:
                raise StopAsyncIteration
            while self._steps:
                piece = await _next(self._steps.pop(0))
                if piece is not None:
                    self.outputs[0].add(piece, self._parameters.logprobs)
                    return self
            self.finished = True
            self.outputs[0].finish_reason = self._reason
            return self

        def abort(self) -> None:
            told.num_aborted += 1

    class LLM:
        def __init__(
            self,
            model: str | Path,
            tokenizer: Any = None,
            tokenizer_mode: str = "auto",
            skip_tokenizer_init: bool = False,
            trust_remote_code: bool = False,
            tensor_parallel_size: int = 1,
            dtype: str = "auto",
            revision: str | None = None,
            tokenizer_revision: str | None = None,
            **kwargs: Any,
        ) -> None:
            if told.load_error is not None:
                raise told.load_error
            told.opened.append({"model": model, "tokenizer": tokenizer, "dtype": dtype, **kwargs})

        def generate_async(
            self,
            inputs: Any,
            sampling_params: SamplingParams | None = None,
            lora_request: Any = None,
            prompt_adapter_request: Any = None,
            streaming: bool = False,
            kv_cache_retention_config: Any = None,
            disaggregated_params: Any = None,
            _postproc_params: Any = None,
            scheduling_params: Any = None,
            cache_salt: str | None = None,
        ) -> RequestOutput:
            assert isinstance(sampling_params, SamplingParams)
            assert sampling_params.end_id is not None or sampling_params.stop is None
            told.asked.append({"inputs": inputs, "streaming": streaming, "parameters": sampling_params})
            return RequestOutput(sampling_params)

        def shutdown(self) -> None:
            told.num_closed += 1

    package: Any = ModuleType("tensorrt_llm")
    package.__version__, package.LLM, package.SamplingParams = "1.2.0", LLM, SamplingParams
    llmapi: Any = ModuleType("tensorrt_llm.llmapi")
    llmapi.GuidedDecodingParams = GuidedDecodingParams
    monkeypatch.setitem(sys.modules, "tensorrt_llm", package)
    monkeypatch.setitem(sys.modules, "tensorrt_llm.llmapi", llmapi)
    llm_args: Any = ModuleType("tensorrt_llm.llmapi.llm_args")
    llm_args.update_llm_args_with_extra_dict = _updated
    monkeypatch.setitem(sys.modules, "tensorrt_llm.llmapi.llm_args", llm_args)
    return told


def install_vllm(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Put a fake `vllm` in the place of the package."""
    told = Told()

    @dataclass
    class StructuredOutputsParams:
        json: Any = None
        regex: str | None = None
        choice: list[str] | None = None
        grammar: str | None = None
        json_object: bool | None = None
        structural_tag: str | None = None

    @dataclass(kw_only=True)
    class SamplingParams:
        n: int = 1
        presence_penalty: float = 0.0
        frequency_penalty: float = 0.0
        repetition_penalty: float = 1.0
        temperature: float = 1.0
        top_p: float = 1.0
        top_k: int = 0
        min_p: float = 0.0
        seed: int | None = None
        stop: Any = None
        stop_token_ids: list[int] | None = None
        ignore_eos: bool = False
        max_tokens: int | None = 16
        min_tokens: int = 0
        logprobs: int | None = None
        skip_special_tokens: bool = True
        output_kind: int = 0
        structured_outputs: StructuredOutputsParams | None = None

        def __post_init__(self) -> None:
            if self.temperature > 2.0:
                raise ValueError(f"temperature must be in [0, 2], got {self.temperature}.")

    @dataclass
    class AsyncEngineArgs:
        model: str = "none"
        kv_cache_dtype: str = "auto"
        max_model_len: int | None = None
        enable_prefix_caching: bool | None = None
        max_num_seqs: int | None = None
        quantization: str | None = None
        scheduling_policy: str = "fcfs"
        generation_config: str = "auto"

    @dataclass
    class RequestOutput:
        outputs: list[CompletionOutput]
        finished: bool
        num_cached_tokens: int | None

    class AsyncLLM:
        @classmethod
        def from_engine_args(
            cls,
            engine_args: AsyncEngineArgs,
            start_engine_loop: bool = True,
            usage_context: Any = None,
            stat_loggers: Any = None,
        ) -> AsyncLLM:
            asyncio.get_running_loop()
            if told.load_error is not None:
                raise told.load_error
            told.opened.append(dict(vars(engine_args)))
            return cls()

        async def generate(
            self,
            prompt: Any,
            sampling_params: SamplingParams,
            request_id: str,
            *,
            prompt_text: str | None = None,
            lora_request: Any = None,
            priority: int = 0,
        ) -> AsyncGenerator[RequestOutput, None]:
            assert isinstance(sampling_params, SamplingParams)
            told.asked.append({"prompt": prompt, "id": request_id, "priority": priority, "parameters": sampling_params})
            held = sampling_params.structured_outputs
            steps, reason = told.writes(sampling_params, held and held.regex)
            output = CompletionOutput()
            try:
                for step in steps:
                    piece = await _next(step)
                    if piece is not None:
                        output.add(piece, sampling_params.logprobs)
                        yield RequestOutput([output], False, told.cached_tokens)
                output.finish_reason = reason
                yield RequestOutput([output], True, told.cached_tokens)
            except (asyncio.CancelledError, GeneratorExit):
                told.num_aborted += 1
                raise

        def shutdown(self, timeout: float | None = None) -> None:
            told.num_closed += 1

    package: Any = ModuleType("vllm")
    package.__version__, package.AsyncEngineArgs, package.SamplingParams = "0.32.0", AsyncEngineArgs, SamplingParams
    modules: dict[str, Any] = {name: ModuleType(name) for name in ("vllm.sampling_params", "vllm.v1.engine.async_llm")}
    modules["vllm.sampling_params"].StructuredOutputsParams = StructuredOutputsParams
    modules["vllm.v1.engine.async_llm"].AsyncLLM = AsyncLLM
    modules["vllm.platforms"] = platforms = ModuleType("vllm.platforms")
    platforms.current_platform = type("Platform", (), {"device_type": "cuda"})()  # type: ignore[attr-defined]
    for name, module in {"vllm": package, **modules}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return told


INSTALL = {"tensorrt-llm": install_tensorrt_llm, "vllm": install_vllm}
