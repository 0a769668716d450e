"""Turns a user's request into a typed evaluation rubric with RubricRM, on ONNX Runtime.

Names are loaded when they are first used: importing this package costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rubricrm._version import __version__ as __version__

if TYPE_CHECKING:
    from rubricrm.async_model import AsyncRubricModel as AsyncRubricModel
    from rubricrm.errors import RubricrmError as RubricrmError
    from rubricrm.errors import ServerError as ServerError
    from rubricrm.generation.capabilities import Capabilities as Capabilities
    from rubricrm.generation.future import RubricFuture as RubricFuture
    from rubricrm.generation.options import GenerationOptions as GenerationOptions
    from rubricrm.generation.outcome import Outcome as Outcome
    from rubricrm.generation.result import RubricResult as RubricResult
    from rubricrm.generation.result import TextResult as TextResult
    from rubricrm.generation.rubric_stream import RubricStream as RubricStream
    from rubricrm.generation.rubric_stream import StreamEvent as StreamEvent
    from rubricrm.generation.text_stream import TextStream as TextStream
    from rubricrm.judge.async_jury import AsyncJury as AsyncJury
    from rubricrm.judge.judge_model import JudgeModel as JudgeModel
    from rubricrm.judge.judgment import Judgment as Judgment
    from rubricrm.judge.judgment import parse_judgment as parse_judgment
    from rubricrm.judge.jury import Jury as Jury
    from rubricrm.judge.verdict import Scored as Scored
    from rubricrm.judge.verdict import Unscored as Unscored
    from rubricrm.judge.verdict import Verdict as Verdict
    from rubricrm.model import RubricModel as RubricModel
    from rubricrm.rubric.rubric import Criterion as Criterion
    from rubricrm.rubric.rubric import Issue as Issue
    from rubricrm.rubric.rubric import Kind as Kind
    from rubricrm.rubric.rubric import Rubric as Rubric
    from rubricrm.rubric.rubric import parse as parse
    from rubricrm.runtime.bundle import Bundle as Bundle
    from rubricrm.runtime.prompt_directory import write_prompt_directory as write_prompt_directory

_HOMES = {
    "AsyncRubricModel": "async_model",
    "Bundle": "runtime.bundle",
    "Capabilities": "generation.capabilities",
    "Criterion": "rubric.rubric",
    "GenerationOptions": "generation.options",
    "Issue": "rubric.rubric",
    "Kind": "rubric.rubric",
    "Rubric": "rubric.rubric",
    "Outcome": "generation.outcome",
    "RubricFuture": "generation.future",
    "RubricModel": "model",
    "RubricResult": "generation.result",
    "RubricStream": "generation.rubric_stream",
    "RubricrmError": "errors",
    "ServerError": "errors",
    "StreamEvent": "generation.rubric_stream",
    "TextResult": "generation.result",
    "TextStream": "generation.text_stream",
    "AsyncJury": "judge.async_jury",
    "JudgeModel": "judge.judge_model",
    "Jury": "judge.jury",
    "Judgment": "judge.judgment",
    "Scored": "judge.verdict",
    "Unscored": "judge.verdict",
    "Verdict": "judge.verdict",
    "parse_judgment": "judge.judgment",
    "parse": "rubric.rubric",
    "write_prompt_directory": "runtime.prompt_directory",
}

__all__ = [
    "__version__",
    *_HOMES,
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'rubricrm' has no attribute {name!r}")
    value = getattr(import_module(f"rubricrm.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
