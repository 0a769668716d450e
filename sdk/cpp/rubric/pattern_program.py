r"""Patterns of Python's `re` as programs of pattern.cpp.

A pattern is parsed by `re`, which also says which characters each class or letter of it matches, so that `\s`, `\w`
and letters without regard to case mean exactly what they mean in Python.
"""

from __future__ import annotations

import re
import re._compiler as compiler
import re._constants as ops
import re._parser as parser
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

LAST = sys.maxunicode
EVERY_CHARACTER = "".join(map(chr, range(LAST + 1)))
NO_LIMIT = 0xFFFF
OPERATIONS = (
    "Accept", "Done", "Character", "Class", "Jump", "Split", "Save", "Repeat", "RepeatLazily", "RepeatPossessively",
    "Atomic", "LoopPossessively", "Ahead", "NotAhead", "Behind", "NotBehind", "AtStart", "AtEnd", "AtEndOfText",
    "AtBoundary", "Again",
)  # fmt: skip
POSITIONS = {
    ops.AT_BEGINNING: "AtStart",
    ops.AT_BEGINNING_STRING: "AtStart",
    ops.AT_END: "AtEnd",
    ops.AT_END_STRING: "AtEndOfText",
    ops.AT_BOUNDARY: "AtBoundary",
}

Ranges = tuple[tuple[int, int], ...]


def ranges_of(members: Iterable[int]) -> Ranges:
    """Sorted code points as ranges, both ends included."""
    found: list[tuple[int, int]] = []
    for code in members:
        if found and code == found[-1][1] + 1:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return tuple(found)


def members(ranges: Ranges) -> Iterator[int]:
    for first, last in ranges:
        yield from range(first, last + 1)


def where(holds: Callable[[str], bool]) -> Ranges:
    return ranges_of(code for code, character in enumerate(EVERY_CHARACTER) if holds(character))


def camel(name: str) -> str:
    return "k" + "".join(part.capitalize() for part in name.strip("_").split("_"))


class Classes:
    """Every class of characters that a pattern or a predicate needs, once."""

    def __init__(self) -> None:
        self.ids: dict[Ranges, int] = {}
        self._of_nodes: dict[str, Ranges] = {}

    def id_of(self, ranges: Ranges) -> int:
        return self.ids.setdefault(ranges, len(self.ids))

    def of_node(self, node: Any, flags: int) -> Ranges:
        """The characters that one node of a parsed pattern matches, as `re` itself says."""
        key = f"{node!r} {flags & (re.IGNORECASE | re.DOTALL)}"
        if key not in self._of_nodes:
            state = parser.State()
            state.str, state.flags = "", 0
            once = parser.SubPattern(state, [node])
            many = parser.SubPattern(state, [(ops.MAX_REPEAT, (1, ops.MAXREPEAT, once))])
            compiled = compiler.compile(many, int(flags) | re.UNICODE)
            spans = (match.span() for match in compiled.finditer(EVERY_CHARACTER))
            self._of_nodes[key] = tuple((start, end - 1) for start, end in spans)
        return self._of_nodes[key]


CLASSES = Classes()
ONE_CHARACTER = (ops.LITERAL, ops.NOT_LITERAL, ops.IN, ops.ANY)
REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)


def require(holds: bool, what: str) -> None:
    """Refuse to write what the library would read wrongly."""
    if not holds:
        raise ValueError(f"{what}: teach pattern.cpp, or the code that relies on it.")


class Program:
    """The words of one pattern."""

    def __init__(self, pattern: Any, groups: dict[str, int]) -> None:
        parsed = parser.parse(pattern._text, pattern._flags)
        self._names = {number: groups[name] for name, number in parsed.state.groupdict.items()}
        self.words: list[int] = []
        self._emit_all(parsed, parsed.state.flags)
        self._put("Accept")
        require(len(self.words) < NO_LIMIT, "a program is too long")
        first, is_nullable = first_of(parsed, parsed.state.flags)
        self.first = None if is_nullable or first is None else first

    def _put(self, operation: str, *arguments: int) -> int:
        """Add an operation; return where its first argument is."""
        require(all(0 <= argument <= NO_LIMIT for argument in arguments), "a number of a program is too large")
        self.words += [OPERATIONS.index(operation), *arguments]
        return len(self.words) - len(arguments)

    def _here(self, at: int) -> None:
        self.words[at] = len(self.words)

    def _emit_all(self, nodes: Any, flags: int) -> None:
        for node in nodes:
            self._emit(node, flags)

    def _emit(self, node: Any, flags: int) -> None:
        op, argument = node
        if op in ONE_CHARACTER:
            self._emit_character(node, flags)
        elif op in REPEATS:
            self._emit_repeat(op, *argument, flags)
        elif op is ops.SUBPATTERN:
            self._emit_group(*argument, flags)
        elif op is ops.BRANCH:
            self._emit_branch(argument[1], flags)
        else:
            self._emit_rare(op, argument, flags)

    def _emit_rare(self, op: Any, argument: Any, flags: int) -> None:
        if op is ops.ATOMIC_GROUP:
            self._emit_inner("Atomic", (), argument, flags)
        elif op in (ops.ASSERT, ops.ASSERT_NOT):
            self._emit_look(op is ops.ASSERT, *argument, flags)
        elif op is ops.AT:
            self._put(POSITIONS[argument])
        else:
            require(op is ops.GROUPREF, f"{op} is unknown")
            require(not flags & re.IGNORECASE, "a group is matched again without regard to case")
            self._put("Again", self._names[argument])

    def _emit_character(self, node: Any, flags: int) -> None:
        ranges = CLASSES.of_node(node, flags)
        if len(ranges) == 1 and ranges[0][0] == ranges[0][1] <= NO_LIMIT:
            self._put("Character", ranges[0][0])
        else:
            self._put("Class", CLASSES.id_of(ranges))

    def _emit_group(self, number: int | None, added: int, removed: int, body: Any, flags: int) -> None:
        flags = (flags | added) & ~removed
        if number in self._names:
            self._put("Save", 2 * self._names[number])
        self._emit_all(body, flags)
        if number in self._names:
            self._put("Save", 2 * self._names[number] + 1)

    def _emit_branch(self, options: list[Any], flags: int) -> None:
        ends = []
        for option in options[:-1]:
            other = self._put("Split", 0)
            self._emit_all(option, flags)
            ends.append(self._put("Jump", 0))
            self._here(other)
        self._emit_all(options[-1], flags)
        for end in ends:
            self._here(end)

    def _emit_repeat(self, op: Any, least: int, most: Any, body: Any, flags: int) -> None:
        limit = NO_LIMIT if most is ops.MAXREPEAT else int(most)
        if len(body) == 1 and body[0][0] in ONE_CHARACTER and limit != 1:
            ways = {
                ops.MAX_REPEAT: "Repeat",
                ops.MIN_REPEAT: "RepeatLazily",
                ops.POSSESSIVE_REPEAT: "RepeatPossessively",
            }
            self._put(ways[op], CLASSES.id_of(CLASSES.of_node(body[0], flags)), least, limit)
            return
        require(limit == 1 or not first_of(body, flags)[1], "a repeated pattern may match nothing")
        if op is ops.POSSESSIVE_REPEAT:
            self._emit_inner("LoopPossessively", (least, limit), body, flags)
            return
        for _ in range(least):
            self._emit_all(body, flags)
        if limit == NO_LIMIT:
            again = len(self.words)
            end = self._emit_choice(op, body, flags)
            self._put("Jump", again)
            self._here(end)
            return
        ends = [self._emit_choice(op, body, flags) for _ in range(limit - least)]
        for end in ends:
            self._here(end)

    def _emit_choice(self, op: Any, body: Any, flags: int) -> int:
        """Either the body or what follows it; return where the position of what follows is to be written."""
        other = self._put("Split", 0)
        if op is ops.MIN_REPEAT:
            end = self._put("Jump", 0)
            self._here(other)
            other = end
        self._emit_all(body, flags)
        return other

    def _emit_inner(self, operation: str, arguments: tuple[int, ...], body: Any, flags: int) -> None:
        end = self._put(operation, *arguments, 0) + len(arguments)
        self._emit_all(body, flags)
        self._put("Done")
        self._here(end)
        require(not any(holds_group(body, number) for number in self._names), "a group is in an inner program")

    def _emit_look(self, is_wanted: bool, direction: int, body: Any, flags: int) -> None:
        negation = "" if is_wanted else "Not"
        if direction > 0:
            self._emit_inner(f"{negation}Ahead", (), body, flags)
            return
        least, most = body.getwidth()
        require(least == most, "a look behind has no fixed width")
        self._emit_inner(f"{negation}Behind", (least,), body, flags)


def holds_group(nodes: Any, number: int) -> bool:
    """Whether a group is opened in parsed nodes."""
    if isinstance(nodes, tuple) and len(nodes) == 2 and nodes[0] is ops.SUBPATTERN and nodes[1][0] == number:
        return True
    if isinstance(nodes, (tuple, list, parser.SubPattern)):
        return any(holds_group(node, number) for node in nodes)
    return False


def union(*several: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    for first, last in sorted(pair for ranges in several for pair in ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


def first_of(nodes: Any, flags: int) -> tuple[Ranges | None, bool]:
    """The characters that a match may start with (None for any), and whether it may be empty."""
    found: list[Ranges] = []
    for node in nodes:
        ranges, is_nullable = first_of_node(node, flags)
        if ranges is None:
            return None, is_nullable
        found.append(ranges)
        if not is_nullable:
            return union(*found), False
    return union(*found), True


def first_of_node(node: Any, flags: int) -> tuple[Ranges | None, bool]:
    op, argument = node
    if op in ONE_CHARACTER:
        return CLASSES.of_node(node, flags), False
    if op is ops.SUBPATTERN:
        return first_of(argument[3], (flags | argument[1]) & ~argument[2])
    if op is ops.ATOMIC_GROUP:
        return first_of(argument, flags)
    if op is ops.BRANCH:
        firsts = [first_of(option, flags) for option in argument[1]]
        is_nullable = any(nullable for _, nullable in firsts)
        known = [ranges for ranges, _ in firsts if ranges is not None]
        return (union(*known) if len(known) == len(firsts) else None), is_nullable
    if op in REPEATS:
        ranges, is_nullable = first_of(argument[2], flags)
        return ranges, is_nullable or argument[0] == 0
    return (None if op is ops.GROUPREF else ()), True
