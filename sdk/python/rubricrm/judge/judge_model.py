"""A judge: it compares two answers to a request by a rubric."""

from __future__ import annotations

import time
from functools import cached_property
from threading import Event
from typing import Unpack

from rubricrm.errors import BundleInvalid, OptionInvalid
from rubricrm.generation.future import ResultFuture
from rubricrm.generation.options import GenerationOptions, OptionKeywords, merge
from rubricrm.judge.judgment_result import JudgmentResult, JudgmentStream
from rubricrm.runtime.manifest import JUDGE_PAIRWISE
from rubricrm.text_model import DEMO_JUDGE_BUNDLE, TextModel

# Where a bundle's prompt says how the judge is sampled: under "extensions", as docs/BUNDLE.md tells.
SAMPLING = "sampling"


class JudgmentFuture(ResultFuture[JudgmentResult]):
    """The judgment of two answers that were submitted. Otherwise as `ResultFuture`."""


class JudgeModel(TextModel):
    """An open judge: made by `JudgeModel.open`, `JudgeModel.demo` or `JudgeModel.connect`, not by its constructor.

    Its bundle, or prompt directory, has the prompt judge-pairwise. The demo judge checks plain hard rules alone;
    docs/SERVING.md says how often it is right.

    One call is one sample, with the answers in one order. A judge may prefer what it sees first, and its samples
    differ: `Jury` asks for several, in both orders.

    Example:
        >>> with JudgeModel.open("judge-bundle") as judge:
        ...     result = judge.judge("Write a haiku about rain.", rubric, "Rain falls.", "Drops on the old roof ...")
        >>> result.judgment.winner
        'B'
    """

    prompt_name = JUDGE_PAIRWISE
    demo_bundle = DEMO_JUDGE_BUNDLE

    @cached_property
    def default_options(self) -> GenerationOptions:
        """How a call without options samples: with the temperature that the bundle tells, else greedily.

        Raises:
            BundleInvalid: The bundle tells something else.
        """
        told = self.bundle.manifest.prompt_of(self.prompt_name).extensions.get(SAMPLING, {})
        try:
            return GenerationOptions(**told)
        except (OptionInvalid, TypeError) as error:
            raise BundleInvalid(
                f'{self.bundle.path}: "prompts.{self.prompt_name}.extensions.{SAMPLING}" is {told!r:.80}, expected '
                f"options of a generation ({error}). Export the bundle again."
            ) from error

    def judge(
        self,
        request: str,
        rubric: str,
        response_a: str,
        response_b: str,
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> JudgmentResult:
        """Return which of two answers the judge prefers. Costs one prefill of all texts, and one run per token.

        Args:
            request: What a user asked some assistant to do.
            rubric: The rubric's text: what `Rubric.render` returns.
            response_a: The answer that is shown first.
            response_b: The other one.
            options: Options that several calls share; None: `default_options`.
            cancel: Setting it ends the generation before its next token.
            **keywords: As in `RubricModel.generate`.

        Raises:
            RequestInvalid: A text is blank, or holds NUL or lone surrogates.
            OptionInvalid: An option is out of range.
            PromptTooLong: The texts do not fit the model's context.
            ModelClosed: The model was closed, or opened before a fork.
            RuntimeFailed: ONNX Runtime failed.
        """
        stream = self.stream(request, rubric, response_a, response_b, options=options, cancel=cancel, **keywords)
        stream.wait()
        return stream.result()

    def submit(
        self,
        request: str,
        rubric: str,
        response_a: str,
        response_b: str,
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> JudgmentFuture:
        """Return at once the future of a judgment. Arguments and errors as `judge`."""
        return JudgmentFuture(
            self.stream(request, rubric, response_a, response_b, options=options, cancel=cancel, **keywords)
        )

    def stream(
        self,
        request: str,
        rubric: str,
        response_a: str,
        response_b: str,
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> JudgmentStream:
        """Return a judgment while it is written. Arguments and errors as `judge`; failures of the runtime when read."""
        started = time.perf_counter()
        checked = merge(options or self.default_options, keywords)
        values = {"instruction": request, "rubric": rubric, "response_a": response_a, "response_b": response_b}
        text = self._start(self._prompt.encode(values), checked, cancel, started)
        in_thought = self.bundle.manifest.chat.starts_in_thought
        return JudgmentStream(text, self.description, starts_in_thought=in_thought)
