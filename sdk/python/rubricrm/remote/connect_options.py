"""How a model on a server is found and asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

from rubricrm.errors import OptionInvalid
from rubricrm.runtime.integer_option import check_integer

_MOST_TOGETHER = 1000  # connections, which is what the openai package's pool has
_MOST_WAITING = 1 << 30
_MOST_RETRIES = 10


class ConnectKeywords(TypedDict, total=False):
    """The fields of ConnectOptions as keyword arguments."""

    model: str | None
    api_key: str | None
    dialect: str | None
    constrain: bool
    max_concurrency: int
    max_waiting: int
    max_retries: int


@dataclass(frozen=True)
class ConnectOptions:
    """Options of one connected model.

    Attributes:
        model: The model's name there; None: the only one.
        api_key: The server's key. No key of the environment is sent.
        dialect: "vllm", "sglang", "tensorrt-llm", "llama.cpp" or "openai"; None: as the server says of itself.
        constrain: Whether the server is to hold rubrics to their form. False: where it cannot; a rubric that is not in
            the form then has the issue `unconstrained`.
        max_concurrency: Most requests that the server gets at a time, 1 to 1000.
        max_waiting: Most that wait here beside them; one more gets EngineBusy.
        max_retries: How often a request that could not be started is tried again, 0 to 10.

    Raises:
        OptionInvalid: A number is out of range.
    """

    model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    dialect: str | None = None
    constrain: bool = True
    max_concurrency: int = 64
    max_waiting: int = 1000
    max_retries: int = 2

    def __post_init__(self) -> None:
        check_integer("max_concurrency", self.max_concurrency, _MOST_TOGETHER)
        check_integer("max_waiting", self.max_waiting, _MOST_WAITING)
        if type(self.max_retries) is not int or not 0 <= self.max_retries <= _MOST_RETRIES:
            raise OptionInvalid(
                f"max_retries must be an integer from 0 to {_MOST_RETRIES}, got {self.max_retries!r:.80}."
            )
