"""What may follow a text in a pattern, character by character: slow, and written from the pattern's tree alone."""

from __future__ import annotations

from functools import lru_cache

from rubricrm.rubric.expression import Characters, Concatenation, Either, Expression, Literal, Repeat, Rule

States = frozenset[int]
_CONTINUATION = range(0x80, 0xC0)


class Reference:
    """The automaton of Thompson's construction, simulated on sets of states."""

    def __init__(self, expression: Expression) -> None:
        self._ranges: list[tuple[tuple[str, str], ...]] = []  # of each state, what it takes
        self._leads: list[list[int]] = []  # where it leads: after its character, or without one where it takes none
        self._whole = self._state()
        self.start = self._closed({self._build(expression, self._whole)})
        self.step = lru_cache(None)(self._step)
        self.can_follow = lru_cache(None)(self._can_follow)

    def accepts(self, states: States) -> bool:
        return self._whole in states

    def read(self, states: States, tail: bytes, more: bytes) -> tuple[States, bytes] | None:
        """Where more bytes lead from states and the part of a character after them; None where they cannot follow."""
        for byte in more:
            tail += bytes([byte])
            if not self.can_follow(states, tail):
                return None
            try:
                states, tail = self.step(states, tail.decode()), b""
            except UnicodeDecodeError:
                continue
        return states, tail

    def _step(self, states: States, character: str) -> States:
        taken = {
            lead
            for state in states
            if any(first <= character <= last for first, last in self._ranges[state])
            for lead in self._leads[state]
        }
        return self._closed(taken)

    def _can_follow(self, states: States, begun: bytes) -> bool:
        """Whether a character that begins with some bytes can follow."""
        bounds = characters_from(begun)
        if bounds is None:
            return False
        ranges = [pair for state in states for pair in self._ranges[state]]
        return any(first <= bounds[1] and bounds[0] <= last for first, last in ranges)

    def _state(self, ranges: tuple[tuple[str, str], ...] = (), leads: list[int] | None = None) -> int:
        self._ranges.append(ranges)
        self._leads.append(leads if leads is not None else [])
        return len(self._ranges) - 1

    def _build(self, expression: Expression, then: int) -> int:  # noqa: C901 - one case per pattern
        match expression:
            case Literal(text):
                for character in reversed(text):
                    then = self._state(((character, character),), [then])
                return then
            case Characters(ranges):
                return self._state(ranges, [then])
            case Concatenation(parts):
                for part in reversed(parts):
                    then = self._build(part, then)
                return then
            case Either(options):
                return self._state((), [self._build(option, then) for option in options])
            case Repeat(part, "?"):
                return self._state((), [self._build(part, then), then])
            case Repeat(part, "*"):
                again = self._state((), [then])
                self._leads[again].append(self._build(part, again))
                return again
            case Rule(_, part):
                return self._build(part, then)
        raise AssertionError(expression)

    def _closed(self, states: set[int]) -> States:
        found, waiting = set(states), list(states)
        while waiting:
            state = waiting.pop()
            if not self._ranges[state]:
                new = set(self._leads[state]) - found
                found |= new
                waiting += new
        return frozenset(found)


@lru_cache(None)
def characters_from(begun: bytes) -> tuple[str, str] | None:
    """The first and the last character whose UTF-8 begins with some bytes."""
    lead = begun[0]
    length = (
        1
        if lead < 0x80
        else 2
        if 0xC2 <= lead < 0xE0
        else 3
        if 0xE0 <= lead < 0xF0
        else 4
        if 0xF0 <= lead < 0xF5
        else 0
    )
    if not length or len(begun) > length or any(byte not in _CONTINUATION for byte in begun[1:]):
        return None
    missing = length - len(begun)
    lowest = {0xE0: b"\xa0", 0xF0: b"\x90"}.get(lead, b"\x80")
    highest = {0xED: b"\x9f", 0xF4: b"\x8f"}.get(lead, b"\xbf")
    if len(begun) == 1 and missing:
        return (
            (begun + lowest + b"\x80" * (missing - 1)).decode(),
            (begun + highest + b"\xbf" * (missing - 1)).decode(),
        )
    if len(begun) > 1 and not lowest[0] <= begun[1] <= highest[0]:
        return None
    return (begun + b"\x80" * missing).decode(), (begun + b"\xbf" * missing).decode()
