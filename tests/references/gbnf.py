"""A small interpreter of llama.cpp's GBNF: rules, texts, classes, groups, bars, `?`, `*` and `+`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

_TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:\\.|[^"\\])*")|(?P<set>\[(?:\\.|[^\]\\])*\])|(?P<name>[a-z][a-z-]*)|(?P<sign>[()|?*+]))'
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-F]{2})|u([0-9A-F]{4})|U([0-9A-F]{8})|(.))")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]"}
_IN_SET = re.compile(r"(\\x..|\\u....|\\U........|\\.|[^\\])(?:-(\\x..|\\u....|\\U........|\\.|[^\\]))?", re.DOTALL)


def gbnf_matches(grammar: str, text: str) -> bool:  # noqa: C901 - one case per sign
    """Whether the rule `root` of a grammar matches a whole text."""
    rules = {name: _parse(right) for name, right in (line.split(" ::= ", 1) for line in grammar.splitlines())}

    @lru_cache(None)
    def ends(node: Any, start: int) -> frozenset[int]:
        kind, value = node
        if kind == "text":
            return frozenset({start + len(value)} if text.startswith(value, start) else ())
        if kind == "set":
            is_in = start < len(text) and any(first <= text[start] <= last for first, last in value)
            return frozenset({start + 1} if is_in else ())
        if kind == "name":
            return ends(rules[value], start)
        if kind == "or":
            return frozenset().union(*(ends(option, start) for option in value))
        if kind == "row":
            found = frozenset({start})
            for part in value:
                found = frozenset().union(*(ends(part, at) for at in found))
            return found
        sign, part = value
        found = set() if sign == "+" else {start}
        fresh = ends(part, start)
        while fresh - found:
            new = fresh - found
            found |= new
            fresh = frozenset().union(*(ends(part, at) for at in new)) if sign in "*+" else frozenset()
        return frozenset(found)

    return len(text) in ends(rules["root"], 0)


def _parse(right: str) -> Any:
    tokens = list(_tokens(right))
    node, rest = _alternatives(tokens)
    assert not rest, rest
    return node


def _tokens(right: str) -> Iterator[tuple[str, Any]]:
    position = 0
    while position < len(right):
        match = _TOKEN.match(right, position)
        assert match is not None, right[position : position + 40]
        position = match.end()
        kind = str(match.lastgroup)
        value: Any = match[kind]
        if kind == "text":
            value = _unescaped(value[1:-1])
        elif kind == "set":
            pairs = _IN_SET.findall(value[1:-1])
            value = tuple((_unescaped(first), _unescaped(last or first)) for first, last in pairs)
        yield kind, value


def _alternatives(tokens: list[tuple[str, Any]]) -> tuple[Any, list[tuple[str, Any]]]:
    options, row = [], []
    while tokens and tokens[0] != ("sign", ")"):
        kind, value = tokens.pop(0)
        if (kind, value) == ("sign", "|"):
            options.append(("row", tuple(row)))
            row = []
        elif (kind, value) == ("sign", "("):
            node, tokens = _alternatives(tokens)
            assert tokens.pop(0) == ("sign", ")")
            row.append(node)
        elif kind == "sign":
            row.append(("repeat", (value, row.pop())))
        else:
            row.append((kind, value))
    return ("or", (*options, ("row", tuple(row)))), tokens


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        # llama.cpp refuses any other escape.
        return chr(int(code, 16)) if code else _ESCAPES[match[4]]

    return _ESCAPE.sub(character, text)
