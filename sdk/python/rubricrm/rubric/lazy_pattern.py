"""A regular expression that is compiled when it is first used."""

from __future__ import annotations

import re
from typing import Any, cast


class _LazyPattern:
    """Stands for the compiled expression: what is looked up in it is looked up there once, and kept."""

    def __init__(self, text: str, flags: int) -> None:
        self._text = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(self._text, self._flags), name)
        self.__dict__[name] = found
        return found


def lazy_pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """Return what has the methods of `re.compile(text, flags)`; the first call compiles, others take 50 ns more.

    Reading rubrics takes 60 expressions, most of them for forms that a text seldom has. To compile all of them takes
    40 ms, in which a model could be opened by a tenth.
    """
    return cast("re.Pattern[str]", _LazyPattern(text, flags))
