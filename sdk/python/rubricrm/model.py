"""The user's class: open a bundle, turn requests into rubrics."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self, Unpack

from rubricrm.errors import OptionInvalid
from rubricrm.generation.completion import Completion
from rubricrm.generation.draft_desk import DraftDesk
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineKeywords, EngineOptions
from rubricrm.generation.future import RubricFuture
from rubricrm.generation.grammar import Grammar
from rubricrm.generation.item_number import ItemNumbers
from rubricrm.generation.options import GenerationOptions, OptionKeywords, merge
from rubricrm.generation.outcome import Outcome, as_they_end, in_order
from rubricrm.generation.phrase_table import PhraseTable
from rubricrm.generation.result import RubricResult, TextResult
from rubricrm.generation.rubric_stream import RubricStream
from rubricrm.generation.step_cost import MOST_ROWS, open_step_cost
from rubricrm.generation.text_stream import TextStream
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.graph_choice import running_kernels
from rubricrm.runtime.kernels import find_kernels
from rubricrm.runtime.prefix import Prefix, kept_prefix, open_prefix
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.read_ahead import reading_ahead
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer

DEMO_BUNDLE = Path(__file__).parent / "demo_bundle"


class RubricModel:
    """An open model: made by `RubricModel.open(path)` or `RubricModel.demo()`, not by its constructor.

    Its methods may be called from several threads: requests that are there at the same time are computed together, for
    little more than the price of one. On this project's kernels no result depends on what else runs, to the last bit;
    elsewhere tokens may differ where two are nearly equally likely.

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

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | None = None,
        threads: int | None = None,
        **engine: Unpack[EngineKeywords],
    ) -> None:
        if not isinstance(bundle, Bundle):
            raise OptionInvalid(
                f"RubricModel: got {bundle!r:.80}, expected an opened Bundle. Open a directory with "
                "RubricModel.open(path), or the demo model with RubricModel.demo()."
            )
        self._engine_options = EngineOptions(**engine)
        self.bundle = bundle
        session = Session(bundle, device=device, threads=threads)
        with reading_ahead(session.mapped_file), ThreadPoolExecutor(1) as beside:
            kept = beside.submit(kept_prefix, bundle, session)
            grammar = beside.submit(self._open_grammar)
            self._tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
            self._prompt = Prompt(bundle.manifest.prompt, bundle.manifest.chat, self._tokenizer)
            token_ids = self._prompt.fixed_prefix()
            prefix = open_prefix(bundle, session, token_ids, kept.result()) if token_ids else None
        drafts = self._open_drafts(session, prefix) if self._engine_options.draft and session.is_exact else None
        self._engine = Engine(
            session, bundle.manifest, prefix, self._engine_options, grammar=grammar.result(), drafts=drafts
        )
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
        cls,
        path: Path | str,
        *,
        device: str | None = None,
        threads: int | None = None,
        verify: bool = False,
        **engine: Unpack[EngineKeywords],
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
            **engine: What the model takes on at once, and how:

                - max_concurrency (int): most requests that are computed together, 8 if not given.
                - max_waiting (int): most that wait beside them, 1000 if not given; one more gets EngineBusy.
                - max_memory (int): most bytes of keys and values; if not given, as many as the requests need.
                - keep_prompts (bool): keep keys and values of a prompt for the next one that begins alike; True if not
                  given. No result depends on it, but times do.
                - draft (bool): verify drafted tokens where that is quicker; True if not given. No result depends on it,
                  but times do: from the text, and from phrases of earlier rubrics of this open model.

        Raises:
            BundleNotFound: No bundle there.
            BundleInvalid: A file is missing, damaged or foreign.
            BundleVersionUnsupported: Another format version.
            OptionInvalid: An option out of range, or a device that the bundle was not exported for.
            RuntimeMissing: No ONNX Runtime is installed, or not what the device needs.
            RuntimeFailed: ONNX Runtime refused the graph.
        """
        return cls(Bundle.open(path, verify=verify), device=device, threads=threads, **engine)

    @classmethod
    def demo(cls, *, threads: int | None = None, **engine: Unpack[EngineKeywords]) -> Self:
        """Open the demo model that comes with the package: small, quick, and no measure of RubricRM's quality."""
        return cls.open(DEMO_BUNDLE, threads=threads, **engine)

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
                - priority (int): of requests that wait, those with the highest priority are computed first.
                - constrain (bool): hold the rubric to its form, whatever the model prefers; True by default.
                - grammar (Grammar): hold the text to another form, which `compile_grammar` made.

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
        stream.wait()
        return stream.result()

    def submit(
        self,
        request: str,
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> RubricFuture:
        """Return at once the future of a request's rubric. Arguments and errors as `generate`.

        Example:
            >>> model = RubricModel.demo()
            >>> futures = [model.submit(f"Write a haiku about {thing}.") for thing in ("rain", "snow")]
            >>> [future.result().finish_reason for future in futures]
            ['stop', 'stop']
        """
        return RubricFuture(self.stream(request, options=options, cancel=cancel, **keywords))

    def generate_many(
        self,
        requests: Iterable[str],
        *,
        max_concurrency: int | None = None,
        ordered: bool = False,
        options: GenerationOptions | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> Generator[Outcome]:
        """Yield the outcome of each of many requests: a result, or the error that this request met.

        Leaving the iteration cancels what still runs.

        Args:
            requests: Any number; each is taken when there is room for it.
            max_concurrency: Most requests that run at a time; None: as many as the model computes together.
            ordered: Yield in the order of the requests, not as they end.
            options: As in `generate`, for every request.
            **keywords: As in `generate`.

        Raises:
            OptionInvalid: An option is out of range.
            OptionUnknown: There is no such option.

        Example:
            >>> with RubricModel.demo() as model:
            ...     for outcome in model.generate_many(["Write a haiku.", "Name a color."], ordered=True):
            ...         print(outcome.index, outcome.result.finish_reason if outcome.result else outcome.error)
            0 stop
            1 stop
        """
        checked = merge(options, keywords)
        most = self._engine_options.max_concurrency if max_concurrency is None else max_concurrency
        if type(most) is not int or most < 1:
            raise OptionInvalid(f"max_concurrency must be an integer from 1 on, got {most!r:.80}.")
        outcomes = as_they_end(lambda request: self.stream(request, options=checked), requests, most)
        return in_order(outcomes) if ordered else outcomes

    def compile_grammar(self, pattern: str) -> Grammar:
        """Compile a regular expression that a whole answer must match, for the option `grammar` of any call.

        It takes a second at Qwen3's vocabulary, and needs the extra `grammar`.

        Args:
            pattern: In the syntax of Rust's `regex`, without anchors and look-around.

        Raises:
            DependencyMissing: outlines-core is not installed.
            GrammarUnusable: It is no such expression, or too large, or no tokens of the model spell a whole text.

        Example:
            >>> model = RubricModel.demo()
            >>> yes_or_no = model.compile_grammar("Yes|No")
            >>> model.generate_text("Is snow white?", grammar=yes_or_no).text in ("Yes", "No")
            True
        """
        from rubricrm.generation.grammar_compiler import compile_grammar

        return compile_grammar(pattern, self._tokenizer, self.bundle.manifest.prompt.stop_ids)

    def warmup(self) -> None:
        """Compute one token after the prompt's fixed part: pages and caches are warm for the first request."""
        self.generate("Warm up.", max_new_tokens=1)

    def stream(
        self,
        request: str,
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> RubricStream:
        """Return the rubric of a request while it is written: iterate for pieces of text and complete criteria.

        It is written whether it is read or not: a slow reader delays nobody, and its pauses count neither for
        `timeout_s` nor in the result's times.

        Args:
            request: What a user asked some assistant to do.
            options: As in `generate`.
            cancel: As in `generate`; the stream's own `cancel()` does the same.
            **keywords: As in `generate`: max_new_tokens, temperature, top_k, top_p, min_p, seed, stop, logprobs,
                timeout_s, stop_on_repetition, priority, constrain,
                grammar.

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
        text = self._start(self._prompt.encode_request(request), checked, cancel, started, is_rubric=True)
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
        stream.wait()
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

    def _open_grammar(self) -> Grammar | None:
        facts = self.bundle.manifest
        if facts.prompt.grammar is None:
            return None
        return Grammar.load(self.bundle.file(facts.prompt.grammar), facts.tokenizer.num_tokens, facts.prompt.stop_ids)

    def _open_drafts(self, session: Session, prefix: Prefix | None) -> DraftDesk:
        """Measure, once on a machine, what rows cost: drafts are worth it where a row costs less than a step."""

        def run(rows: int) -> None:
            slot.cache.rewind(past)
            session.run(slot, [0] * rows, rows)

        past = len(prefix.token_ids) if prefix is not None else 0
        slot = session.new_slot(past + MOST_ROWS)
        if prefix is not None:
            slot.restore(prefix.positions, past)
        conditions = f"{session.threads}-threads-{session.kernels.instruction_set if session.kernels else 'none'}"
        cost = open_step_cost(self.bundle.manifest_sha256, session.cache_key, conditions, run)
        numbers = ItemNumbers(self._tokenizer)
        return DraftDesk(cost, numbers, PhraseTable(numbers))

    def _start(
        self,
        prompt_ids: list[int],
        options: GenerationOptions,
        cancel: Event | None,
        started: float,
        *,
        is_rubric: bool = False,
    ) -> TextStream:
        tokenized = time.perf_counter()
        completion = Completion(self._tokenizer, options)
        sequence = self._engine.submit(
            prompt_ids, options, is_rubric=is_rubric, completion=completion, cancel=cancel, started=started
        )
        return TextStream(sequence, tokenized)
