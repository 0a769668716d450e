"""How to open a jury: a value that can be pickled, where an open jury cannot."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from rubricrm.errors import OptionInvalid
from rubricrm.judge.verdict import Scored, Unscored

if TYPE_CHECKING:
    from rubricrm.generation.options import OptionKeywords
    from rubricrm.judge.async_jury import AsyncJury
    from rubricrm.judge.judge_model import JudgeModel
    from rubricrm.model import RubricModel

Model = TypeVar("Model", "JudgeModel", "RubricModel")


class RewardJury(Protocol):
    """What rewards need of a jury: the method of this name of `AsyncJury`."""

    async def reward(
        self, request: str, answer: str, reference: str, *, rubric: str | None = None
    ) -> Scored | Unscored:
        """Compare an answer with a reference, in both orders."""
        ...


class OpensJury(Protocol):
    """Opens a jury for the running event loop."""

    async def open(self) -> RewardJury:
        """Return a jury.

        Raises:
            RubricrmError: It cannot be opened.
        """
        ...


@dataclass(frozen=True)
class JurySource:
    """A judge, and what makes the rubrics: each a bundle's directory, or a server's address such as `http://host:8000`.

    A process opens it once, whatever its event loops: weights are in memory once, and so are the rubrics of requests.

    Attributes:
        judge: The judge.
        judge_prompt: Of a judge on a server: its prompt directory, or a bundle.
        judge_model: Of a judge on a server: the server's name for it; None: its only model.
        judge_key_variable: The environment variable with the key of the judge's server. The key itself is in no
            setting, so that no log and no checkpoint of a trainer shows it.
        rubrics: What makes the rubrics; None where every sample has its own.
        rubrics_prompt: As `judge_prompt`.
        rubrics_model: As `judge_model`.
        rubrics_key_variable: As `judge_key_variable`.
        votes: Votes of the judge per order of the two answers.
        temperature: The judge's; None: what its bundle tells. Several votes need one above 0.
    """

    judge: str | Path
    judge_prompt: str | Path | None = None
    judge_model: str | None = None
    judge_key_variable: str | None = None
    rubrics: str | Path | None = None
    rubrics_prompt: str | Path | None = None
    rubrics_model: str | None = None
    rubrics_key_variable: str | None = None
    votes: int = 1
    temperature: float | None = None

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other, before a training has loaded its policy."""
        for field in fields(self):
            if not isinstance(value := getattr(self, field.name), str | Path | int | float | None):
                raise OptionInvalid(f"{field.name} must be a text or a number, got {value!r:.80}.")
        for role in ("judge", "rubrics"):
            place = getattr(self, role)
            given = [
                name for name in (f"{role}_prompt", f"{role}_model", f"{role}_key_variable") if getattr(self, name)
            ]
            if place is not None and _is_server(place):
                if f"{role}_prompt" not in given:
                    raise OptionInvalid(f"{role} is the server {place}: give its prompt directory as {role}_prompt.")
            elif given:
                raise OptionInvalid(f"{', '.join(given)}: only a server takes these, and {role} is {place!r}.")

    async def open(self) -> RewardJury:
        """Return this process's jury.

        Raises:
            RubricrmError: A bundle or server cannot be opened.
        """
        return await asyncio.to_thread(_jury, self)


_lock = threading.Lock()
_juries: dict[JurySource, AsyncJury] = {}


def _forget() -> None:
    """Begin anew after a fork: its parent's models have threads and sockets there, and the lock may be held."""
    global _lock
    _lock = threading.Lock()
    _juries.clear()


os.register_at_fork(after_in_child=_forget)


def _jury(source: JurySource) -> AsyncJury:
    from rubricrm.judge.async_jury import AsyncJury
    from rubricrm.judge.judge_model import JudgeModel
    from rubricrm.model import RubricModel

    with _lock:
        if source not in _juries:
            judge = _open(JudgeModel, "judge", source)
            rubrics = None if source.rubrics is None else _open(RubricModel, "rubrics", source)
            options: OptionKeywords = {} if source.temperature is None else {"temperature": source.temperature}
            _juries[source] = AsyncJury(judge, rubrics, votes=source.votes, **options)
        return _juries[source]


def _open(kind: type[Model], role: str, source: JurySource) -> Model:
    place = getattr(source, role)
    if not _is_server(place):
        return kind.open(place)
    variable = getattr(source, f"{role}_key_variable")
    if variable and variable not in os.environ:
        raise OptionInvalid(f"{role}_key_variable names {variable!r}, which is not set in the environment.")
    return kind.connect(
        place,
        prompt=getattr(source, f"{role}_prompt"),
        model=getattr(source, f"{role}_model"),
        api_key=os.environ[variable] if variable else None,
    )


def _is_server(place: str | Path) -> bool:
    return str(place).startswith(("http://", "https://"))
