"""How large a regular expression is when its counted repetitions are written out: what its automaton costs."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\.|\[(?:\\.|\[:[^\]]*\]|[^\]\\])*\]|\{(\d*)(,?)(\d*)\}|.", re.DOTALL)


def pattern_size(pattern: str) -> int:
    """Count the characters and classes of an expression; one in `(?:a{10}){20}` counts 200 times.

    An upper estimate for the syntax that this package takes, and quick for any text.
    """
    sizes = [0]  # of the groups that are open, the outermost first
    last = 0  # what a repetition repeats
    for match in _TOKEN.finditer(pattern):
        word = match[0]
        if word == "(":
            sizes.append(0)
            last = 0
        elif word == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif match[1] is not None and word != "{}":
            times = max(int(match[1] or 0), int(match[3] or 0), 1)
            sizes[-1] += last * (times - 1)
            last *= times
        elif word not in "*+?|":
            last = 1
            sizes[-1] += 1
    return sum(sizes)
