"""What Python says of characters, as far as reading rubrics needs it."""

from __future__ import annotations

import re
import re._constants as ops
import re._parser as parser
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pattern_program import CLASSES, EVERY_CHARACTER, ONE_CHARACTER, REPEATS, members, require, where

PREDICATES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "kSpace": ("str.isspace, and \\s", str.isspace),
    "kDecimal": ("str.isdecimal, and \\d", str.isdecimal),
    "kDigit": ("str.isdigit", str.isdigit),
    "kAlphanumeric": ("str.isalnum; \\w without the low line", str.isalnum),
    "kLower": ("str.islower of one character", str.islower),
    "kUpper": ("str.isupper of one character", str.isupper),
    "kCased": ("characters whose str.upper and str.lower differ", lambda c: c.upper() != c.lower()),
    "kPrintable": ("str.isprintable", str.isprintable),
    "kSymbolOrMath": ("categories So and Sm", lambda c: unicodedata.category(c) in ("So", "Sm")),
    "kSymbolOrModifier": ("categories So and Sk", lambda c: unicodedata.category(c) in ("So", "Sk")),
    "kOtherLetter": ("category Lo", lambda c: unicodedata.category(c) == "Lo"),
}


def check_what_the_library_takes_for_granted() -> None:
    """Facts about Unicode on which code that was written by hand relies; a new version might end them."""
    for pattern, holds in ((r"\s", str.isspace), (r"\d", str.isdecimal), (r"\w", lambda c: c.isalnum() or c == "_")):
        found = re.compile(pattern).findall(EVERY_CHARACTER)
        require(found == [c for c in EVERY_CHARACTER if holds(c)], f"{pattern} and the method of str differ")
    for first, last in where(str.isdecimal):
        values = [int(chr(code)) for code in range(first, last + 1)]
        require(
            values == [i % 10 for i in range(len(values))], "the digits of a script do not stand in a row from 0 to 9"
        )
    lowered = [c for c in EVERY_CHARACTER if c.lower() != c and any(small < "\x80" for small in c.lower())]
    capitals = [*map(chr, range(ord("A"), ord("Z") + 1)), "\u0130", "\u212a"]
    require(lowered == capitals, "another letter's small form holds an ASCII letter")
    cased = [(c.upper(), c.lower()) for c in EVERY_CHARACTER if c.upper() != c.lower()]
    require(all(upper[0] != lower[0] for upper, lower in cased), "two cases of a letter start alike")
    breaks = [c for c in EVERY_CHARACTER if len(f"{c}.".splitlines()) > 1]
    require(breaks == list("\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"), "lines end at other characters")


def numeral_characters(patterns: Iterable[Any]) -> list[str]:
    """Every character of a numeral in these patterns that is no decimal digit."""
    found: set[int] = set()
    for pattern in patterns:
        parsed = parser.parse(pattern._text, pattern._flags)
        numbers = {number for name, number in parsed.state.groupdict.items() if name in ("numeral", "ordinal")}
        for node, flags in nodes_of_groups(parsed, parsed.state.flags, numbers, is_inside=False):
            found.update(members(CLASSES.of_node(node, flags)))
    return [chr(code) for code in sorted(found) if not chr(code).isdecimal()]


def nodes_of_groups(nodes: Any, flags: int, numbers: set[int], *, is_inside: bool) -> Iterator[tuple[Any, int]]:
    """Each node of one character inside groups of these numbers, with its flags."""
    for op, argument in nodes:
        if op in ONE_CHARACTER and is_inside:
            yield (op, argument), flags
        elif op is ops.SUBPATTERN:
            yield from nodes_of_groups(argument[3], flags, numbers, is_inside=is_inside or argument[0] in numbers)
        elif op is ops.BRANCH:
            for option in argument[1]:
                yield from nodes_of_groups(option, flags, numbers, is_inside=is_inside)
        elif op in REPEATS:
            yield from nodes_of_groups(argument[2], flags, numbers, is_inside=is_inside)


def folded(written: str) -> str:
    """A numeral as `number_of` compares it."""
    return unicodedata.normalize("NFKC", written).casefold()
