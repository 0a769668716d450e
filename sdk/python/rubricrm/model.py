"""The user's class: open a bundle, turn requests into rubrics."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self, Unpack

from rubricrm.generation.completion import TextResult, TextStream, Timings, Usage
from rubricrm.generation.engine import Engine
from rubricrm.generation.options import GenerationOptions, OptionKeywords
from rubricrm.generation.sampling import TokenLogprobs
from rubricrm.rubric.rubric import Criterion, Rubric, RubricReader, parse
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prefix import open_prefix
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer

DEMO_BUNDLE = Path(__file__).parent / "demo_bundle"


@dataclass(frozen=True)
class StreamEvent:
    """What one step brought: a piece of text, and the criteria whose lines it completed (mostly none)."""

    text: str
    criteria: tuple[Criterion, ...] = ()


@dataclass(frozen=True)
class RubricResult:
    """The rubric of a request, with the text it was read from.

    Attributes:
        request: What the user asked.
        text: What the model wrote, unchanged.
        rubric: Criteria, and issues where the text is not in the usual form. A malformed text is no exception.
        finish_reason: "stop", "length", "cancelled" or "timeout"; after all but the first, the text is cut.
        usage: Tokens.
        timings_ms: Milliseconds.
        seed: The seed that was used.
        logprobs: One entry a token where they were asked for, else None.
        model: Name, weights, device and manifest hash of the model that wrote it.
    """

    request: str
    text: str
    rubric: Rubric
    finish_reason: str
    usage: Usage
    timings_ms: Timings
    seed: int
    logprobs: tuple[TokenLogprobs, ...] | None
    model: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return what `rubricrm generate --json` prints; docs/CLI.md describes it."""
        return {
            "request": self.request,
            "text": self.text,
            "rubric": self.rubric.to_dict(),
            "finish_reason": self.finish_reason,
            "usage": asdict(self.usage),
            "timings_ms": asdict(self.timings_ms),
            "model": dict(self.model),
        }


class RubricStream:
    """Iterates over events while a rubric is generated; `result` holds the outcome afterwards.

    The texts of the events, joined, are `result().text`; their criteria, in a row, are `result().rubric.criteria`.
    """

    def __init__(self, request: str, text: TextStream, model: Mapping[str, str]) -> None:
        self._request = request
        self._text = text
        self._model = model
        self._reader = RubricReader()
        self._events = self._generate()
        self._rubric: Rubric | None = None

    def __iter__(self) -> Iterator[StreamEvent]:
        return self

    def __next__(self) -> StreamEvent:
        return next(self._events)

    def cancel(self) -> None:
        """End before the next token. Safe from any thread; the iteration then ends by itself."""
        self._text.cancel()

    def close(self) -> None:
        """End now. Closing twice is fine."""
        self._events.close()
        self._text.close()

    def result(self) -> RubricResult:
        """Return the rubric of what was generated; ends the generation if it is still running."""
        self.close()
        text = self._text.result()
        # An iteration that was left early, perhaps by an exception in mid-line, has read no more than a part.
        rubric = self._rubric or parse(text.text, truncated=text.finish_reason != "stop")
        return RubricResult(
            request=self._request,
            text=text.text,
            rubric=rubric,
            finish_reason=text.finish_reason,
            usage=text.usage,
            timings_ms=text.timings_ms,
            seed=text.seed,
            logprobs=text.logprobs,
            model=self._model,
        )

    def _generate(self) -> Generator[StreamEvent, None, None]:
        for piece in self._text:
            yield StreamEvent(piece, tuple(self._reader.feed(piece)))
        last, self._rubric = self._reader.finish(truncated=self._text.result().finish_reason != "stop")
        if last:
            yield StreamEvent("", tuple(last))


class RubricModel:
    """An open model. Its methods may be called from several threads; each request's steps take turns.

    Example:
        >>> from rubricrm import RubricModel
        >>> with RubricModel.demo() as model:
        ...     result = model.generate("Write a haiku about rain. Do not use the word water.")
        >>> result.finish_reason
        'stop'
    """

    def __init__(self, bundle: Bundle, *, device: str | None = None, threads: int | None = None) -> None:
        self.bundle = bundle
        self._tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
        self._prompt = Prompt(bundle.manifest.prompt, bundle.manifest.chat, self._tokenizer)
        session = Session(bundle, device=device, threads=threads)
        token_ids = self._prompt.fixed_prefix()
        prefix = open_prefix(bundle, session, token_ids) if token_ids else None
        self._engine = Engine(session, bundle.manifest, prefix)
        self._description = {
            "name": bundle.manifest.model.name,
            "weights": bundle.manifest.quantization.weights,
            "device": session.device,
            "manifest_sha256": bundle.manifest_sha256,
        }

    @classmethod
    def open(
        cls, path: Path | str, *, device: str | None = None, threads: int | None = None, verify: bool = False
    ) -> Self:
        """Open a bundle.

        The first opening of a large model on a machine also computes the keys and values of the prompt's fixed part
        (one prefill of it) and keeps them in the cache directory.

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

    def generate(self, request: str, *, cancel: Event | None = None, **options: Unpack[OptionKeywords]) -> RubricResult:
        """Return the rubric of a request.

        Args:
            request: What a user asked some assistant to do.
            cancel: Setting it ends the generation before its next token; what there is is returned.
            **options: See `GenerationOptions`.

        Raises:
            RequestInvalid: The request is blank, or holds NUL or lone surrogates.
            OptionInvalid: An option is out of range.
            PromptTooLong: The request does not fit the model's context.
            ModelClosed: The model was closed, or opened before a fork.
            RuntimeFailed: ONNX Runtime failed.
        """
        stream = self.stream(request, cancel=cancel, **options)
        for _ in stream:
            pass
        return stream.result()

    def stream(self, request: str, *, cancel: Event | None = None, **options: Unpack[OptionKeywords]) -> RubricStream:
        """Return the rubric of a request while it is written. Arguments and errors as `generate`."""
        started = time.perf_counter()
        checked = GenerationOptions(**options)
        text = self._start(self._prompt.encode_request(request), checked, cancel, started)
        return RubricStream(request, text, self._description)

    def generate_text(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        cancel: Event | None = None,
        **options: Unpack[OptionKeywords],
    ) -> TextResult:
        """Return the model's answer to a message, without the rubric template.

        Args:
            prompt: A user's message, or a conversation of objects with `role` and `content`, the user's last.
            cancel: As in `generate`.
            **options: See `GenerationOptions`.

        Raises:
            RubricrmError: As `generate`.
        """
        stream = self.stream_text(prompt, cancel=cancel, **options)
        for _ in stream:
            pass
        return stream.result()

    def stream_text(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        cancel: Event | None = None,
        **options: Unpack[OptionKeywords],
    ) -> TextStream:
        """Return the answer while it is written. Arguments and errors as `generate_text`."""
        started = time.perf_counter()
        checked = GenerationOptions(**options)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return self._start(self._prompt.encode_messages(messages), checked, cancel, started)

    def close(self) -> None:
        """Free the model and unmap its files. Closing twice is fine."""
        self._engine.close()

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
