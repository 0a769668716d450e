"""A model whose answers and failures a test decides."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from rubricrm import parse
from rubricrm.errors import RubricrmError
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.result import RubricResult, Timings, Usage

TEXT = "1. The response is about {}. [Hard Rule]"


def result(request: str, seed: int = 0) -> RubricResult:
    text = TEXT.format(request)
    times = Timings(tokenize=0, prefill=0, first_token=0, decode=0, total=0)
    return RubricResult(request, text, parse(text), "stop", Usage(10, 5, 7), times, seed, None, None, {})


@dataclass
class ScriptedModel:
    """Answers a request unless `fault` gives it an error; `asked` holds all requests in order."""

    fault: Callable[[str], RubricrmError | None] = lambda _: None
    max_concurrency: int = 4
    asked: list[str] = field(default_factory=list)

    def submit(self, request: str, *, options: GenerationOptions) -> Future[RubricResult]:
        self.asked.append(request)
        future: Future[RubricResult] = Future()
        assert options.seed is not None
        error = self.fault(request)
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result(request, options.seed))
        return future

    def generate(self, request: str, **_: object) -> RubricResult:
        self.asked.append("probe")
        error = self.fault("probe")
        if error is not None:
            raise error
        return result(request)
