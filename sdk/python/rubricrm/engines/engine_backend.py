"""The backend of an engine of others in this process: ids in, text out, and the same ends as on a server."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Self, cast

from rubricrm.engines.async_engine import AsyncEngine, EngineRequest
from rubricrm.engines.engine_directory import EngineDirectory
from rubricrm.engines.tensorrt_llm_engine import TensorRTLLMEngine
from rubricrm.engines.vllm_engine import VLLMEngine
from rubricrm.errors import ModelClosed, OptionInvalid, RubricrmError, RuntimeFailed
from rubricrm.generation.options import GenerationOptions
from rubricrm.remote.completion_chunk import WHOLE_REASONS
from rubricrm.remote.completion_request import SEEDS
from rubricrm.remote.dialects import TENSORRT_LLM, VLLM
from rubricrm.remote.form_text import TRIAL_REQUEST, TRIAL_TOKENS, is_trial_kept, rubric_form, trial_form
from rubricrm.remote.loop_backend import LoopBackend
from rubricrm.remote.loop_thread import LoopThread
from rubricrm.remote.remote_generation import RemoteGeneration
from rubricrm.remote.served_prompt import ServedPrompt
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.integer_option import check_integer
from rubricrm.runtime.prompt_directory import open_prompt_directory

logger = logging.getLogger(__name__)

_MOST = {"max_concurrency": 4096, "max_waiting": 1 << 30}
_WAITING = 1000
# By the reader: how it is opened, and the dialect whose form its grammars have.
_ENGINES: dict[str, tuple[Callable[[EngineDirectory], AsyncEngine], Any]] = {
    "tensorrt-llm": (TensorRTLLMEngine.open, TENSORRT_LLM),
    "vllm": (VLLMEngine.open, VLLM),
}


class EngineBackend(LoopBackend):
    """A model that vLLM or TensorRT-LLM computes in this process: see `Backend`."""

    capabilities = None

    def __init__(
        self,
        directory: EngineDirectory,
        served: ServedPrompt,
        loop: LoopThread,
        *,
        max_concurrency: int,
        max_waiting: int,
    ) -> None:
        """Take what `open` has checked."""
        super().__init__(served, loop, max_concurrency=max_concurrency, max_waiting=max_waiting)
        self._directory = directory
        self._engine: AsyncEngine | None = None
        self.context_length = min(self.context_length, directory.max_seq_len)

    @classmethod
    def open(cls, directory: EngineDirectory, *, prompt_name: str, options: Mapping[str, object]) -> Self:
        """Load an engine, and see that it holds a text to a form.

        Args:
            directory: For one of the engines.
            prompt_name: Which of its prompts is asked.
            options: Those of `RubricModel.open`. `max_concurrency` (if not given, what the directory was made for)
                and `max_waiting` apply; another one that is not None is refused.

        Raises:
            OptionInvalid: Its reader has no Python interface that computes rubrics, or an option is out of range.
            DependencyMissing: The engine's package is not installed.
            RuntimeFailed: The engine cannot be loaded, or does not hold a text to a form.
            BundleInvalid: A file is missing or damaged.
        """
        if directory.reader not in _ENGINES:
            raise OptionInvalid(
                f"{directory.path}: is for {directory.reader}, which is not run in this process; expected "
                f"{' or '.join(_ENGINES)}. Follow its build.sh, and connect to its server where it has one."
            )
        limits = _limits(directory, options)
        served = ServedPrompt.open(open_prompt_directory(directory.path), prompt_name)
        loop = LoopThread("rubricrm-engine")
        backend = cls(directory, served, loop, **limits)
        try:
            loop.run(backend._load())
        except BaseException:
            backend.close()
            raise
        return backend

    @property
    def bundle(self) -> Bundle:
        """The prompt that lies in the directory."""
        return self._served.bundle

    async def _load(self) -> None:
        """Load the engine, in the loop that it will belong to."""
        load, dialect = _ENGINES[self._directory.reader]
        try:
            self._engine = engine = load(self._directory)
        except RubricrmError:
            raise
        except Exception as error:
            raise RuntimeFailed(
                f"{self._directory.path}: {self._directory.reader} cannot load it ({error!r:.300})."
            ) from error
        closing = _closing(engine)
        weakref.finalize(self, self._loop.stop, closing).atexit = False  # who forgets to close leaves no GPU taken
        self.device = engine.device
        self.description = {
            "name": self._directory.model,
            "weights": self._directory.weights,
            "device": self.device,
            "kernels": engine.name,
            "manifest_sha256": self._served.bundle.manifest_sha256,
        }
        self._form = rubric_form(dialect, self._served.bundle.manifest.chat) if self._served.has_form else None
        if self._form is not None:
            await self._require_grammars()

    async def _try_grammar(self) -> None:
        """Let it write a form that no model writes by itself: a grammar may be dropped without a word."""
        engine, form = self._opened(), trial_form(_ENGINES[self._directory.reader][1])
        request = self._request(
            self._served.ids(TRIAL_REQUEST), GenerationOptions(), seed=0, max_new_tokens=TRIAL_TOKENS, regex=form
        )
        text = ""
        try:
            async with aclosing(engine.stream(request, engine.parameters(request))) as chunks:
                async for chunk in chunks:
                    text += chunk.text
        except Exception as error:
            raise RuntimeFailed(f"{self._where}: cannot hold a text to a form ({error!r:.300}).") from error
        if not is_trial_kept(text):
            raise RuntimeFailed(
                f"{self._where}: dropped the grammar without a word: held to a form, it wrote {text!r:.80}. "
                "TensorRT-LLM needs guided_decoding_backend: xgrammar in serve.yaml."
            )

    def _opened(self) -> AsyncEngine:
        if self._engine is None:
            raise ModelClosed("the model was closed. Open it again.")
        return self._engine

    @property
    def _where(self) -> str:
        return f"{self._directory.path} ({self._engine.name if self._engine else self._directory.reader})"

    def _request(
        self, prompt_ids: list[int], options: GenerationOptions, *, seed: int, max_new_tokens: int, regex: str | None
    ) -> EngineRequest:
        stop_ids = tuple(self._served.facts.stop_ids)
        return EngineRequest(prompt_ids, options, seed % SEEDS, max_new_tokens, stop_ids, regex)

    def _work(
        self, generation: RemoteGeneration, max_new_tokens: int, form: str | None
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        engine, options = self._opened(), generation.options
        request = self._request(
            generation.prompt_ids, options, seed=generation.seed, max_new_tokens=max_new_tokens, regex=form
        )
        try:
            parameters = engine.parameters(request)
        except Exception as error:  # each engine has its own
            raise OptionInvalid(f"{engine.name} refuses the options: {error!s:.300}") from error
        return lambda: self._compute(engine, generation, request, parameters)

    async def _compute(
        self, engine: AsyncEngine, generation: RemoteGeneration, request: EngineRequest, parameters: Any
    ) -> None:
        """Let the engine write, and end the generation, whatever comes."""
        reason: str | None = None
        try:
            if generation.options.grammar is not None:
                await self._require_grammars()
            async with aclosing(engine.stream(request, parameters)) as chunks:
                async for chunk in chunks:
                    reason = chunk.finish_reason or reason
                    if not generation.take(chunk):
                        return
        except RubricrmError as error:
            generation.fail(error)
            return
        except Exception as error:
            logger.exception("a generation by %s failed", engine.name)
            generation.fail(RuntimeFailed(f"{self._where}: failed ({error!r:.300}). See the log."))
            return
        if reason in WHOLE_REASONS:
            generation.finish(WHOLE_REASONS[reason])
        else:
            expected = ", ".join(WHOLE_REASONS)
            generation.fail(
                RuntimeFailed(f"{self._where}: ended the text for the reason {reason!r:.40}, expected {expected}.")
            )

    async def _disconnect(self) -> None:
        if self._engine is not None:
            await _closing(self._engine)()


def _limits(directory: EngineDirectory, options: Mapping[str, object]) -> dict[str, int]:
    """Return how many requests are taken on, and refuse what would have no effect."""
    limits = {"max_concurrency": directory.max_batch_size, "max_waiting": _WAITING}
    for name, value in options.items():
        if name in limits:
            check_integer(name, value, _MOST[name])
            limits[name] = cast(int, value)
        elif value is not None:
            raise OptionInvalid(
                f"{name}: has no effect on {directory.path}, which {directory.reader} runs. Leave it out."
            )
    return limits


def _closing(engine: AsyncEngine) -> Callable[[], Coroutine[Any, Any, None]]:
    async def close() -> None:
        engine.close()

    return close
