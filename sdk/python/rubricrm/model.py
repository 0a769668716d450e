"""The user's class: open a bundle, turn requests into rubrics."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from threading import Event
from typing import Unpack

from rubricrm.generation.future import RubricFuture
from rubricrm.generation.options import GenerationOptions, OptionKeywords, merge
from rubricrm.generation.outcome import Outcome, as_they_end, check_concurrency, in_order
from rubricrm.generation.result import RubricResult
from rubricrm.generation.rubric_stream import RubricStream
from rubricrm.text_model import TextModel


class RubricModel(TextModel):
    """An open model: made by `RubricModel.open`, `RubricModel.demo` or `RubricModel.connect`, not by its constructor.

    Its methods may be called from several threads: requests that are there at the same time are computed together, for
    little more than the price of one. On this project's kernels no result depends on what else runs, to the last bit;
    elsewhere tokens may differ where two are nearly equally likely.

    Attributes:
        bundle: What it was opened from.
        description: Name, weights, device, kernels and manifest hash, as results have them in `model`; of a model on a
            server its name there, server, dialect and manifest hash.
        device: Where it runs.
        context_length: Most tokens that prompt and answer have together.
        max_concurrency: Most requests that are computed together.

    Example:
        >>> from rubricrm import RubricModel
        >>> with RubricModel.demo() as model:
        ...     result = model.generate("Write a haiku about rain. Do not use the word water.")
        >>> result.finish_reason
        'stop'
    """

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
            ServerError: The server of a connected model failed; its kinds say how, `retryable` whether to ask again.

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
        most = check_concurrency(max_concurrency, self.max_concurrency)
        outcomes = as_they_end(lambda request: self.stream(request, options=checked), requests, most)
        return in_order(outcomes) if ordered else outcomes

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
        return RubricStream(request, text, self.description, starts_in_thought=in_thought)

    def warmup(self) -> None:
        """Compute one token after the prompt's fixed part: pages and caches are warm for the first request."""
        self.generate("Warm up.", max_new_tokens=1)
