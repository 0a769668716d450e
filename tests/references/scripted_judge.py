"""A judge that writes what a test tells it, with the methods of `JudgeModel` that a jury uses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.result import RubricResult, Timings, Usage
from rubricrm.judge.judgment import parse_judgment
from rubricrm.judge.judgment_result import JudgmentResult
from rubricrm.rubric.rubric import parse

MODEL = {"name": "scripted", "manifest_sha256": "0" * 64}
RUBRIC = "1. The response is short. [Hard Rule]"
_USAGE = Usage(prompt_tokens=1, cached_prompt_tokens=0, completion_tokens=1)
_TIMINGS = Timings(tokenize=0.0, prefill=0.0, first_token=0.0, decode=0.0, total=0.0)


@dataclass(frozen=True)
class Asked:
    """One call of a judge."""

    request: str
    rubric: str
    response_a: str
    response_b: str
    seed: int | None


Answer = str | Exception
Script = Callable[[Asked], Answer]


@dataclass
class ScriptedJudge:
    """Its script says what it writes for a call, or what it fails with; an error in `refusal` is raised at once.

    "CUT:" before a text: the text was cut; "LATE:": the time was over.
    """

    script: Script
    refusal: Callable[[Asked], Exception | None] = lambda _: None
    default_options: GenerationOptions = field(default_factory=lambda: GenerationOptions(temperature=0.7))
    asked: list[Asked] = field(default_factory=list)
    hold: threading.Event | None = None
    futures: list[Future[JudgmentResult]] = field(default_factory=list)

    def submit(
        self, request: str, rubric: str, response_a: str, response_b: str, *, options: GenerationOptions | None = None
    ) -> Future[JudgmentResult]:
        call = Asked(request, rubric, response_a, response_b, None if options is None else options.seed)
        if (error := self.refusal(call)) is not None:
            raise error
        self.asked.append(call)
        future: Future[JudgmentResult] = Future()
        self.futures.append(future)
        if self.hold is None:
            self._answer(future, call)
        return future

    def _answer(self, future: Future[JudgmentResult], call: Asked) -> None:
        answer = self.script(call)
        if isinstance(answer, Exception):
            future.set_exception(answer)
            return
        reasons = {"CUT:": "length", "LATE:": "timeout"}
        mark = next((mark for mark in reasons if answer.startswith(mark)), "")
        reason = reasons.get(mark, "stop")
        judgment = parse_judgment(answer.removeprefix(mark), truncated=reason != "stop")
        future.set_result(JudgmentResult(judgment, reason, _USAGE, _TIMINGS, call.seed or 0, MODEL))


def rubric_result(request: str, text: str = RUBRIC, finish_reason: str = "stop") -> RubricResult:
    """A rubric as a model gives it."""
    return RubricResult(request, text, parse(text), finish_reason, _USAGE, _TIMINGS, 0, None, None, MODEL)


class ScriptedRubrics:
    """A model that makes rubrics in threads of its own, and counts them."""

    def __init__(self, script: Callable[[str], RubricResult]) -> None:
        self.description = dict(MODEL)
        self.asked: list[str] = []
        self._script = script
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(4)

    def submit(self, request: str) -> Future[RubricResult]:
        with self._lock:
            self.asked.append(request)
        return self._pool.submit(self._script, request)
