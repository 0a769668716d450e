"""A thread for work that needs much memory for a moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class OwnThread:
    """Calls functions in one thread, one after the other. The thread starts with the first call.

    glibc's malloc has up to eight arenas per core, gives each thread one of them, and returns little of what is freed
    there. Work that needs megabytes for a moment takes them in each arena: a process of many threads grows for hours.
    """

    def __init__(self, name: str) -> None:
        """Start nothing yet."""
        self._name = name
        self._begin()

    def call(self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Return what a function returns, or raise what it raises."""
        if self._process != os.getpid():  # the thread does not exist in a fork
            self._begin()
        return self._executor.submit(function, *args, **kwargs).result()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._executor = ThreadPoolExecutor(1, self._name)
