"""The user's class: open a bundle, turn requests into rubrics."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self, Unpack

from rubricrm.errors import OptionInvalid
from rubricrm.generation.completion import TextStream
from rubricrm.generation.engine import Engine
from rubricrm.generation.options import GenerationOptions, OptionKeywords, merge
from rubricrm.generation.result import RubricResult, TextResult
from rubricrm.generation.rubric_stream import RubricStream
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.graph_choice import running_kernels
from rubricrm.runtime.kernels import find_kernels
from rubricrm.runtime.prefix import kept_prefix, open_prefix
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.read_ahead import reading_ahead
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer

DEMO_BUNDLE = Path(__file__).parent / "demo_bundle"


class RubricModel:
    """An open model: made by `RubricModel.open(path)` or `RubricModel.demo()`, not by its constructor.

    Its methods may be called from several threads; each request's steps take turns.

    Attributes:
        bundle: What it was opened from.
        device: Where it runs.
        context_length: Most tokens that prompt and answer have together.

    Example:
        >>> from rubricrm import RubricModel
        >>> with RubricModel.demo() as model:
        ...     result = model.generate("Write a haiku about rain. Do not use the word water.")
        >>> result.finish_reason
        'stop'
    """

    def __init__(self, bundle: Bundle, *, device: str | None = None, threads: int | None = None) -> None:
        if not isinstance(bundle, Bundle):
            raise OptionInvalid(
                f"RubricModel: got {bundle!r:.80}, expected an opened Bundle. Open a directory with "
                "RubricModel.open(path), or the demo model with RubricModel.demo()."
            )
        self.bundle = bundle
        session = Session(bundle, device=device, threads=threads)
        with reading_ahead(session.mapped_file), ThreadPoolExecutor(1) as beside:
            kept = beside.submit(kept_prefix, bundle, session)
            self._tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
            self._prompt = Prompt(bundle.manifest.prompt, bundle.manifest.chat, self._tokenizer)
            token_ids = self._prompt.fixed_prefix()
            prefix = open_prefix(bundle, session, token_ids, kept.result()) if token_ids else None
        self._engine = Engine(session, bundle.manifest, prefix)
        self.device = session.device
        self.context_length = bundle.manifest.model.context_length
        self._description = {
            "name": bundle.manifest.model.name,
            "weights": bundle.manifest.quantization.weights,
            "device": session.device,
            "kernels": running_kernels(session.facts, bundle.manifest.graphs, find_kernels()),
            "manifest_sha256": bundle.manifest_sha256,
        }

    @classmethod
    def open(
        cls, path: Path | str, *, device: str | None = None, threads: int | None = None, verify: bool = False
    ) -> Self:
        """Open a bundle.

        The first opening of a large model on a machine also computes the keys and values of the prompt's fixed part
        (one prefill of it) and keeps them in the cache directory. So it does with the weights, where the bundle holds
        them in another layout than the kernels read (seconds for a 4B model).

        Args:
            path: Its directory.
            device: "cpu", "cuda", "tensorrt" or "tensorrt-rtx"; None takes the device
                that the bundle was exported for. It runs there or not at all: nothing falls back to the CPU.
            threads: Threads to compute with; None takes the cores that this process may really use.
            verify: Also compare every file's hash with the manifest.

        Raises:
            BundleNotFound: No bundle there.
            BundleInvalid: A file is missing, damaged or foreign.
            BundleVersionUnsupported: Another format version.
            OptionInvalid: An option out of range, or a device that the bundle was not exported for.
            RuntimeMissing: No ONNX Runtime is installed, or not what the device needs.
            RuntimeFailed: ONNX Runtime refused the graph.
        """
        return cls(Bundle.open(path, verify=verify), device=device, threads=threads)

    @classmethod
    def demo(cls, *, threads: int | None = None) -> Self:
        """Open the demo model that comes with the package: small, quick, and no measure of RubricRM's quality."""
        return cls.open(DEMO_BUNDLE, threads=threads)

    def generate(
        self,
        request: str,
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> RubricResult:
        """Return the rubric of a request. Costs one prefill of the request, and one run of the model per token.

        Options are keywords, or an object of `GenerationOptions`, or both: then a keyword stands in the place of the
        object's value.

        Args:
            request: What a user asked some assistant to do.
            options: Options that several calls share.
            cancel: Setting it ends the generation before its next token; what there is is returned.
            **keywords: Options of this call:

                - max_new_tokens (int): most tokens to write; the bundle's default (1024) if not given.
                - temperature (float): 0, the default, is greedy; from 0.001 up, tokens are sampled.
                - top_k (int): sample from the k most probable tokens; 0, the default: from all.
                - top_p (float): sample from the fewest tokens with this much probability; 1, the default: from all.
                - min_p (float): drop tokens less probable than this part of the most probable one; 0 by default.
                - seed (int): makes sampling repeatable; if not given, one is drawn and reported in the result.
                - stop (list of str): end the text before the first of these strings.
                - logprobs (int): log-probabilities of the chosen token and of this many others, 0 to 20; none if not
                  given.
                - timeout_s (float): return what there is after so many seconds.
                - stop_on_repetition (bool): end a text that goes in circles; True by default.

        Returns:
            The rubric, the text it was read from, why it ended (finish_reason is "stop" for a complete one), tokens,
            times and seed.

        Raises:
            RequestInvalid: The request is blank, or holds NUL or lone surrogates.
            OptionInvalid: An option is out of range.
            OptionUnknown: There is no such option; the message names the one that is meant.
            PromptTooLong: The request does not fit the model's context.
            ModelClosed: The model was closed, or opened before a fork.
            RuntimeFailed: ONNX Runtime failed.

        Example:
            >>> model = RubricModel.demo()
            >>> result = model.generate("Write a haiku about rain.", temperature=0.7, seed=1, max_new_tokens=512)
            >>> for criterion in result.rubric.criteria:
            ...     print(criterion.number, criterion.kind, criterion.text)
        """
        stream = self.stream(request, options=options, cancel=cancel, **keywords)
        for _ in stream:
            pass
        return stream.result()

    def stream(
        self,
        request: str,
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> RubricStream:
        """Return the rubric of a request while it is written: iterate for pieces of text and complete criteria.

        Tokens are computed as the stream is read: a reader that stops reading stops the model, and its time counts
        neither for `timeout_s` nor in the result's times.

        Args:
            request: What a user asked some assistant to do.
            options: As in `generate`.
            cancel: As in `generate`; the stream's own `cancel()` does the same.
            **keywords: As in `generate`: max_new_tokens, temperature, top_k, top_p, min_p, seed, stop, logprobs,
                timeout_s, stop_on_repetition.

        Returns:
            An iterator over `StreamEvent`, and a context manager; its `result()` is what `generate` returns.

        Raises:
            RubricrmError: As `generate`; wrong arguments at once, failures of the runtime while it is read.

        Example:
            >>> model = RubricModel.demo()
            >>> with model.stream("Write a haiku about rain.", max_new_tokens=512) as stream:
            ...     for event in stream:
            ...         print(event.text, end="", flush=True)
            >>> stream.result().finish_reason
            'stop'
        """
        started = time.perf_counter()
        checked = merge(options, keywords)
        text = self._start(self._prompt.encode_request(request), checked, cancel, started)
        in_thought = self.bundle.manifest.chat.starts_in_thought
        return RubricStream(request, text, self._description, starts_in_thought=in_thought)

    def generate_text(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> TextResult:
        """Return the model's answer to a message, without the rubric template.

        Args:
            prompt: A user's message, or a conversation of objects with `role` and `content`, the user's last.
            options: As in `generate`.
            cancel: As in `generate`.
            **keywords: As in `generate`.

        Raises:
            RubricrmError: As `generate`.
        """
        stream = self.stream_text(prompt, options=options, cancel=cancel, **keywords)
        for _ in stream:
            pass
        return stream.result()

    def stream_text(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> TextStream:
        """Return the answer while it is written. Arguments and errors as `generate_text`, reading as `stream`."""
        started = time.perf_counter()
        checked = merge(options, keywords)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return self._start(self._prompt.encode_messages(messages), checked, cancel, started)

    def close(self) -> None:
        """Free the model and unmap its files. Closing twice is fine."""
        self._engine.close()

    def __repr__(self) -> str:
        facts = self._description
        return (
            f"{type(self).__name__}({facts['name']!r}, weights {facts['weights']}, device {facts['device']}, "
            f"context {self.context_length} tokens)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(
        self, prompt_ids: list[int], options: GenerationOptions, cancel: Event | None, started: float
    ) -> TextStream:
        generation = self._engine.submit(prompt_ids, options, cancel=cancel, started=started)
        return TextStream(self._engine, generation, self._tokenizer)
