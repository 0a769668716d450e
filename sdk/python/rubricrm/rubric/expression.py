"""A pattern as a tree, printed as a regular expression or as a grammar of llama.cpp.

Both say the same: a class lists what it holds, so that no dialect's idea of a word or of a space matters. There is no
look-ahead, no anchor and no name: what is printed works in Python's `re`, in Rust's `regex` and in the engines for
structured output that are built on either.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

_REGEX_SPECIALS = frozenset("\\.+*?()|[]{}^$")
_CLASS_SPECIALS = frozenset("\\]^-[&~")  # the last three have a meaning in classes of Rust
# Written by their numbers: llama.cpp knows no \- and no \^.
_GBNF_CLASS_SPECIALS = frozenset("\\]^-[")


class Expression(ABC):
    """A pattern. `a + b` is a followed by b, `a | b` is one of the two."""

    def __add__(self, other: Expression) -> Expression:
        """Return this pattern, then another."""
        return Concatenation((self, other))

    def __or__(self, other: Expression) -> Expression:
        """Return this pattern or another."""
        return Either((self, other))

    def optional(self) -> Expression:
        """Return the pattern once or not at all."""
        return Repeat(self, "?")

    def star(self) -> Expression:
        """Return the pattern any number of times."""
        return Repeat(self, "*")

    @property
    def is_single(self) -> bool:
        """Whether a repeat can follow it without parentheses."""
        return False

    @abstractmethod
    def regex(self) -> str:
        """Return the regular expression, without anchors."""

    @abstractmethod
    def gbnf(self) -> str:
        """Return the right side of a rule of llama.cpp's GBNF."""


@dataclass(frozen=True)
class Literal(Expression):
    """A text that stands for itself."""

    text: str

    @property
    def is_single(self) -> bool:
        """Whether it is one character."""
        return len(self.text) == 1

    def regex(self) -> str:
        """Return the text with its special characters escaped."""
        return "".join(f"\\{c}" if c in _REGEX_SPECIALS else _escaped(c) for c in self.text)

    def gbnf(self) -> str:
        """Return the text in quotes."""
        return '"' + "".join(f"\\{c}" if c in '"\\' else _escaped(c) for c in self.text) + '"'


@dataclass(frozen=True)
class Characters(Expression):
    r"""One character of a class, as `[...]` of a regular expression lists it: single ones, ranges `a-z`, `\-`."""

    ranges: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, listed: str) -> Characters:
        """Return the class of what is listed: single characters and ranges with a hyphen; a hyphen stands first."""
        found = re.findall(r"(.)-(.)|(.)", listed, re.DOTALL)
        ranges: list[tuple[str, str]] = []
        for first, last in sorted((first or single, last or single) for first, last, single in found):
            if ranges and ord(first) <= ord(ranges[-1][1]) + 1:
                ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
            else:
                ranges.append((first, last))
        return cls(tuple(ranges))

    def without(self, listed: str) -> Characters:
        """Return the class without some of its characters."""
        ranges = list(self.ranges)
        for character in listed:
            ranges = [part for first, last in ranges for part in _cut(first, last, character)]
        return Characters(tuple(ranges))

    @property
    def is_single(self) -> bool:
        """Whether a repeat can follow it without parentheses: always."""
        return True

    def regex(self) -> str:
        """Return the class in brackets."""
        return f"[{self._listed(lambda c: _with_backslash(c) if c in _CLASS_SPECIALS else _escaped(c))}]"

    def gbnf(self) -> str:
        """Return the class in brackets."""
        return f"[{self._listed(lambda c: _by_number(c) if c in _GBNF_CLASS_SPECIALS else _escaped(c))}]"

    def _listed(self, written: Callable[[str], str]) -> str:
        return "".join(
            written(first) if first == last else f"{written(first)}-{written(last)}" for first, last in self.ranges
        )


@dataclass(frozen=True)
class Concatenation(Expression):
    """Patterns one after another."""

    parts: tuple[Expression, ...]

    def regex(self) -> str:
        """Return the parts in a row."""
        return "".join(f"(?:{part.regex()})" if isinstance(part, Either) else part.regex() for part in self.parts)

    def gbnf(self) -> str:
        """Return the parts in a row, a space between them."""
        return " ".join(f"({part.gbnf()})" if isinstance(part, Either) else part.gbnf() for part in self.parts)


@dataclass(frozen=True)
class Either(Expression):
    """One of several patterns."""

    options: tuple[Expression, ...]

    def regex(self) -> str:
        """Return the options with bars between them."""
        return "|".join(option.regex() for option in self.options)

    def gbnf(self) -> str:
        """Return the options with bars between them."""
        return " | ".join(option.gbnf() for option in self.options)


@dataclass(frozen=True)
class Repeat(Expression):
    """A pattern once or not at all (`?`), or any number of times (`*`)."""

    part: Expression
    times: str

    def regex(self) -> str:
        """Return the part with its sign."""
        part = self.part.regex()
        return f"{part if self.part.is_single else f'(?:{part})'}{self.times}"

    def gbnf(self) -> str:
        """Return the part with its sign."""
        part = self.part.gbnf()
        return f"{part if self.part.is_single else f'({part})'}{self.times}"


@dataclass(frozen=True)
class Rule(Expression):
    """A pattern with a name, which a grammar writes once and a regular expression wherever it is used."""

    name: str
    part: Expression

    @property
    def is_single(self) -> bool:
        """Whether a repeat can follow it without parentheses: nowhere is it needed."""
        return False

    def regex(self) -> str:
        """Return the pattern itself."""
        return f"(?:{self.part.regex()})"

    def gbnf(self) -> str:
        """Return the name."""
        return self.name


def _cut(first: str, last: str, character: str) -> list[tuple[str, str]]:
    if not first <= character <= last:
        return [(first, last)]
    before, after = (first, chr(ord(character) - 1)), (chr(ord(character) + 1), last)
    return [part for part in (before, after) if part[0] <= part[1]]


def _escaped(character: str) -> str:
    """Write a character that prints as itself, any other by its number, in a way that all dialects read."""
    code = ord(character)
    if character == "\n":
        return "\\n"
    return character if 0x20 <= code < 0x7F else _by_number(character)


def _with_backslash(character: str) -> str:
    return f"\\{character}"


def _by_number(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
