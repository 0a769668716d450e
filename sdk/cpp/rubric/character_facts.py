"""What Python says of characters, as far as reading rubrics needs it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import re._constants as ops
import re._parser as parser
from pattern_program import CLASSES, EVERY_CHARACTER, ONE_CHARACTER, REPEATS, members, where

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
    assert re.compile(r"\s").findall(EVERY_CHARACTER) == [c for c in EVERY_CHARACTER if c.isspace()]
    assert re.compile(r"\d").findall(EVERY_CHARACTER) == [c for c in EVERY_CHARACTER if c.isdecimal()]
    assert re.compile(r"\w").findall(EVERY_CHARACTER) == [c for c in EVERY_CHARACTER if c.isalnum() or c == "_"]
    # The digits of a script stand in a row from 0 to 9: a digit's value is its place.
    for first, last in where(str.isdecimal):
        assert all(int(chr(code)) == (code - first) % 10 for code in range(first, last + 1))
    # Letters whose small form holds an ASCII letter: A to Z, and two more.
    lowered = [c for c in EVERY_CHARACTER if c.lower() != c and any(small < "\x80" for small in c.lower())]
    assert lowered == [*map(chr, range(65, 91)), "\u0130", "\u212a"]
    # Two texts, one in capitals and one in small letters, differ at the first character that has two cases.
    assert all(c.upper()[0] != c.lower()[0] for c in EVERY_CHARACTER if c.upper() != c.lower())
    # White space and breaks of lines.
    assert [c for c in EVERY_CHARACTER if len(f"{c}.".splitlines()) > 1] == list("\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")


def numeral_characters(patterns: dict[str, dict[str, _LazyPattern]]) -> list[str]:
    """Every character of a numeral that is no decimal digit."""
    found: set[int] = set()

    def collect(nodes: Any, flags: int, is_inside: bool) -> None:
        for op, argument in nodes:
            if op in ONE_CHARACTER and is_inside:
                found.update(members(CLASSES.of_node((op, argument), flags)))
            elif op is ops.SUBPATTERN:
                collect(argument[3], flags, is_inside or argument[0] in numbers)
            elif op is ops.BRANCH:
                for option in argument[1]:
                    collect(option, flags, is_inside)
            elif op in REPEATS:
                collect(argument[2], flags, is_inside)

    for pattern in patterns["mark"].values():
        parsed = parser.parse(pattern._text, pattern._flags)
        names = parsed.state.groupdict
        numbers = {names[name] for name in ("numeral", "ordinal") if name in names}
        collect(parsed, parsed.state.flags, False)
    return [chr(code) for code in sorted(found) if not chr(code).isdecimal()]


def folded(written: str) -> str:
    return unicodedata.normalize("NFKC", written).casefold()
