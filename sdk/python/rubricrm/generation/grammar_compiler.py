"""A regular expression and a tokenizer become the tables of a `Grammar`.

outlines-core turns the expression into an automaton over bytes. A token is a string of bytes, so what it does is a
column: where it leads from each state of that automaton. Columns are composed byte by byte, for all tokens at once, and
equal ones are kept once. There are few of them, since most tokens are words: the cost follows the bytes of the
vocabulary, not its size times the number of states.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from rubricrm.errors import DependencyMissing, GrammarUnusable, RequestInvalid
from rubricrm.generation.grammar import (
    END,
    ENDS,
    MOST_STATES,
    NO_STEP,
    NOTHING_FORCED,
    REFUSED,
    START,
    TO_END,
    Grammar,
    GrammarTables,
)
from rubricrm.generation.pattern_size import pattern_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rubricrm.runtime.tokenizer import Tokenizer

_NUM_BYTES = 256
# The library has no limit of its own, and ends the process when memory does. The form of a rubric has 2,870; 30,000 in
# a row take 8 s and 0.5 GB.
_MOST_CHARACTERS = 30_000
# A byte that ends every text. Without it the library prefers the first of `a|ab` to the longer one, and loses what
# leads from a whole text to one that is not whole yet.
_MARK = 0
_MOST_AUTOMATONS = 2
_NO_WAY = 1 << 20  # more tokens than any way has
# How far a text that must follow is looked at, and how many bytes may come after it to be tried one by one.
_MOST_FORCED_BYTES = 64
_MOST_CONTINUATIONS = 8


def compile_grammar(
    pattern: str, tokenizer: Tokenizer, stop_ids: Collection[int], added_ids: Collection[int] = ()
) -> Grammar:
    """Compile a regular expression that the whole text must match, without anchors and look-around.

    Stop ids are allowed after a whole text alone, other added tokens nowhere. The form of a rubric costs 1 s at Qwen3's
    vocabulary.

    Args:
        pattern: In the syntax of Rust's `regex`.
        tokenizer: Spells the tokens.
        stop_ids: The tokens that end a completion.
        added_ids: Added tokens that are allowed where their text is.

    Raises:
        DependencyMissing: outlines-core is not installed.
        GrammarUnusable: The expression is not one, or too large, or no tokens of this tokenizer spell a whole text.
    """
    automaton = _ByteAutomaton.of(pattern)
    columns, kinds = _columns(automaton, _spellings(tokenizer, added_ids))
    states, targets = _reached(columns, automaton.start)
    tables, kept = _tables(targets, automaton.accepts[states], kinds, stop_ids)
    forced = _Forced(automaton, tokenizer)
    tables.forced[START:] = [forced.first_token(state) for state in states[kept].tolist()]
    grammar = Grammar(tables)
    for state, token_id in enumerate(tables.forced.tolist()):
        if token_id != NOTHING_FORCED and grammar.next(state, token_id) == REFUSED:  # it leads to no end
            tables.forced[state] = NOTHING_FORCED
    return Grammar(tables, pattern)


@dataclass(frozen=True)
class _ByteAutomaton:
    """Where each byte leads from each state.

    Attributes:
        steps: [num_states + 1, 256]; the last state is the one after a byte that cannot follow, and leads to itself.
        accepts: [num_states + 1], whether the text may end there.
        start: The state before the first byte.
    """

    steps: NDArray[np.int16]
    accepts: NDArray[np.bool_]
    start: int

    @property
    def nowhere(self) -> int:
        """The state after a byte that cannot follow."""
        return len(self.steps) - 1

    @classmethod
    @lru_cache(_MOST_AUTOMATONS)
    def of(cls, pattern: str) -> _ByteAutomaton:
        """The automaton of an expression: that of outlines-core for a vocabulary of single bytes.

        No text of it holds the byte 0.
        """
        import numpy as np

        try:
            from outlines_core import Index, Vocabulary
        except ImportError as error:
            raise DependencyMissing(
                f"outlines-core cannot be imported ({error}): it compiles a grammar. Install it: "
                "pip install 'rubricrm[grammar]'."
            ) from error
        if (size := pattern_size(pattern)) > _MOST_CHARACTERS:
            raise GrammarUnusable(
                f"the grammar {pattern[:60]!r} has {size} characters when its repetitions are written out, at most "
                f"{_MOST_CHARACTERS} are possible. Repeat less, or without a limit."
            )
        try:
            index = Index(f"(?:{pattern})\\x00", Vocabulary(_NUM_BYTES, {bytes([b]): [b] for b in range(_NUM_BYTES)}))
        except ValueError as error:
            raise GrammarUnusable(
                f"the grammar {pattern[:60]!r} cannot be compiled ({error}). Give a regular expression without "
                "look-around and back-references that some text matches."
            ) from error
        transitions, whole = index.get_transitions(), index.get_final_states()
        names = sorted(transitions)  # the library's own order is that of a hash
        if len(names) > MOST_STATES:
            raise GrammarUnusable(
                f"the grammar has {len(names)} states, at most {MOST_STATES} are possible. Simplify it."
            )
        number = {name: at for at, name in enumerate(names)}
        steps = np.full((len(names) + 1, _NUM_BYTES), len(names), np.int16)
        accepts = np.zeros(len(names) + 1, np.bool_)
        for name, leads in transitions.items():
            accepts[number[name]] = leads.pop(_MARK, None) in whole
            known = {byte: number[to] for byte, to in leads.items() if byte < _NUM_BYTES}
            steps[number[name], list(known)] = list(known.values())
        return cls(steps, accepts, number[index.get_initial_state()])


def _spellings(tokenizer: Tokenizer, added_ids: Collection[int]) -> list[bytes]:
    """The bytes of each id; nothing for another added token, and for an id that does not exist."""
    added = {*tokenizer.added_tokens.values()}.difference(added_ids)
    return [b"" if token_id in added else spelled for token_id, spelled in enumerate(tokenizer.spellings())]


def _columns(automaton: _ByteAutomaton, spellings: list[bytes]) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Compose the bytes of all tokens.

    Returns:
        [num_columns, num_states + 1], where a token leads from each state; the first column leads nowhere.
        [num_tokens], the column of each token; a token without bytes leads nowhere.
    """
    import numpy as np

    lengths = np.fromiter(map(len, spellings), np.int64, len(spellings))
    starts = lengths.cumsum() - lengths
    text = np.frombuffer(b"".join(spellings), np.uint8)
    num_states = len(automaton.steps)
    columns = [np.full(num_states, automaton.nowhere, np.int16), np.arange(num_states, dtype=np.int16)]
    known = {column.tobytes(): at for at, column in enumerate(columns)}
    kinds = np.where(lengths > 0, 1, 0)
    active, place = np.flatnonzero(lengths), 0
    while len(active):
        keys, first_of, which = np.unique(
            kinds[active] * _NUM_BYTES + text[starts[active] + place], return_index=True, return_inverse=True
        )
        following = np.zeros(len(keys), np.int64)
        # In the order of tokens, so that columns have the same numbers on every machine.
        for at in np.argsort(first_of):
            kind, byte = divmod(int(keys[at]), _NUM_BYTES)
            column = automaton.steps[columns[kind], byte]
            following[at] = known.setdefault(column.tobytes(), len(columns))
            if following[at] == len(columns):
                columns.append(column)
        kinds[active] = following[which]
        place += 1
        active = active[(lengths[active] > place) & (kinds[active] > 0)]
    used, kinds = np.unique(np.concatenate(([0], kinds)), return_inverse=True)
    return np.stack([columns[kind] for kind in used]), kinds[1:]


def _reached(columns: NDArray[np.int16], start: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the states that tokens reach, nearest first.

    Returns:
        [num_reached], their numbers; the first is `start`.
        [num_reached, num_columns], where each column leads from each of them: an index of the first array, or -1.
    """
    import numpy as np

    nowhere = columns.shape[1] - 1
    place = np.full(columns.shape[1], -1)
    reached = [np.array([start])]
    place[start], count = 0, 1
    while len(reached[-1]):
        targets = columns[:, reached[-1]].T.ravel()
        fresh = targets[(place[targets] < 0) & (targets != nowhere)]
        new, first = np.unique(fresh, return_index=True)
        new = new[np.argsort(first)].astype(np.int64)
        place[new] = np.arange(count, count + len(new))
        count += len(new)
        reached.append(new)
    states = np.concatenate(reached)
    return states, place[columns[:, states]].T


def _tables(
    columns: NDArray[np.int64], accepts: NDArray[np.bool_], kinds: NDArray[np.int64], stop_ids: Collection[int]
) -> tuple[GrammarTables, NDArray[np.int64]]:
    """Put the end first, leave out what leads to no end, and keep equal classes and rows once.

    Returns:
        The tables, nothing in them forced yet; and which of the reached states each of their states is, the end aside.
    """
    import numpy as np

    following = np.full((len(columns) + 1, columns.shape[1] + 2), REFUSED, np.int32)
    following[START:, 2:] = np.where(columns < 0, REFUSED, columns + START)
    following[START:, ENDS] = np.where(accepts, END, REFUSED)
    ways = _shortest_ways(following)
    if ways[START] == _NO_WAY:
        raise GrammarUnusable(
            "no tokens of this tokenizer spell a whole text that the grammar allows. Use a tokenizer with a token for "
            "every byte that the grammar needs."
        )
    kept = np.flatnonzero(ways != _NO_WAY)
    number = np.full(len(ways) + 1, REFUSED, np.int32)  # the last is that of REFUSED
    number[kept] = np.arange(len(kept))
    following = number[following[kept]]
    steps = np.where(following == REFUSED, NO_STEP, following - np.arange(len(kept))[:, None])
    steps[:, ENDS] = np.where(following[:, ENDS] == REFUSED, NO_STEP, TO_END)
    by_class, class_of = _without_repeats(steps.T.astype(np.int16))
    token_class = class_of[kinds + 2].astype(np.uint16)
    token_class[list(stop_ids)] = ENDS
    rows, row = _without_repeats(np.ascontiguousarray(by_class.T))
    nothing = np.full(len(kept), NOTHING_FORCED, np.int32)
    tables = GrammarTables(token_class, rows, row.astype(np.uint16), ways[kept].astype(np.uint16), nothing)
    return tables, kept[START:] - START


def _shortest_ways(following: NDArray[np.int32]) -> NDArray[np.int32]:
    """How many tokens each state is away from the end."""
    import numpy as np

    ways = np.full(len(following) + 1, _NO_WAY, np.int32)  # the last is that of REFUSED
    ways[END] = 0
    while True:
        found: NDArray[np.int32] = np.minimum(ways[:-1], ways[following].min(axis=1) + 1)
        if (found == ways[:-1]).all():
            return found
        ways[:-1] = found


def _without_repeats(table: NDArray[np.int16]) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Keep equal rows once, in their order.

    Returns:
        The rows that are left, and the new number of each row.
    """
    import numpy as np

    known: dict[bytes, int] = {}
    kept: list[int] = []
    number = np.zeros(len(table), np.int64)
    for at, row in enumerate(table):
        key = row.tobytes()
        if key not in known:
            known[key] = len(kept)
            kept.append(at)
        number[at] = known[key]
    return table[kept], number


class _Forced:
    """What must follow a state if the text goes on, as the tokenizer spells it.

    Several tokens may begin a text that must follow: " The", " T", " ". The canonical ones are what the tokenizer makes
    of that text, as far as they are the same whatever comes after it.
    """

    def __init__(self, automaton: _ByteAutomaton, tokenizer: Tokenizer) -> None:
        import numpy as np

        self._automaton = automaton
        self._tokenizer = tokenizer
        self._ways = automaton.steps != automaton.nowhere
        self._num_ways = self._ways.sum(axis=1)
        self._only = np.where(self._num_ways == 1, self._ways.argmax(axis=1), -1).tolist()
        self._token_of: dict[tuple[bytes, ...], int] = {}

    def first_token(self, state: int) -> int:
        """The first token of what must follow a state of the automaton; -1 where nothing must, or none is sure."""
        text, after = self._text_after(state)
        if not text:
            return NOTHING_FORCED
        texts = (text, *(text + more for more in self._continuations(after)))
        if texts not in self._token_of:
            self._token_of[texts] = self._common_token(*texts)
        return self._token_of[texts]

    def _text_after(self, state: int) -> tuple[bytes, int]:
        """The bytes that must follow, up to where the text may end, and the state after them."""
        text = bytearray()
        while (byte := self._only[state]) >= 0 and len(text) < _MOST_FORCED_BYTES:
            text.append(byte)
            state = int(self._automaton.steps[state, byte])
            if self._automaton.accepts[state]:
                break
        return bytes(text), state

    def _continuations(self, state: int) -> Iterator[bytes]:
        """What may come after a text that must follow; nothing where it may be too much to try."""
        if self._automaton.accepts[state]:
            yield b""
        if self._num_ways[state] <= _MOST_CONTINUATIONS:
            for byte in self._ways[state].nonzero()[0].tolist():
                yield bytes([byte]) + self._text_after(int(self._automaton.steps[state, byte]))[0]

    def _common_token(self, text: bytes, *texts: bytes) -> int:
        """The first token of all of some texts, as far as it ends inside the text that they begin with."""
        spelled = [self._encode(more) for more in texts or (text,)]
        num_sure = min(map(len, spelled)) - (not texts)  # what is last may go on, where nobody knows what follows
        first = spelled[0][0] if num_sure > 0 else NOTHING_FORCED
        is_sure = first != NOTHING_FORCED and all(tokens[0] == first for tokens in spelled)
        return first if is_sure and text.startswith(self._tokenizer.token_bytes(first)) else NOTHING_FORCED

    def _encode(self, text: bytes) -> list[int]:
        try:
            return self._tokenizer.encode(codecs.getincrementaldecoder("utf-8")().decode(text))
        except (UnicodeDecodeError, RequestInvalid):  # it starts inside a character, or this vocabulary cannot spell it
            return []
