"""Which tokens may follow: an automaton over tokens, as tables that were compiled at export.

All tokens that lead to the same place from every state are one class. A row says where each class leads, as a step from
the state's own number: states that differ by the number of their item alone share a row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from rubricrm.errors import BundleInvalid
from rubricrm.runtime.whole_file import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from rubricrm.runtime.tokenizer import Tokenizer

REFUSED = -1
"""In place of a state: the token cannot follow."""

END = 0
"""The state after a stop id, after which nothing follows."""

START = 1
"""The state before the first token."""

NOWHERE, ENDS = 0, 1
"""The class of tokens that never follow, and that of the stop ids."""

NO_STEP = -(1 << 15)
"""In place of a step: a token of this class cannot follow."""

TO_END = (1 << 15) - 1
"""In place of a step of the stop ids: they lead to the end. No other class has it, so no token becomes one of them."""

MOST_STATES = (1 << 15) - 2
"""Steps between so many states fit into 16 bits."""

NOTHING_FORCED = -1
"""In place of a token: several may follow, or nothing."""

# The arrays of a file and their dimensions.
_TYPES = {
    "token_class": ("uint16", 1),
    "steps": ("int16", 2),
    "row": ("uint16", 1),
    "shortest": ("uint16", 1),
    "forced": ("int32", 1),
}
_MOST_MASKS = 64


@dataclass(frozen=True)
class GrammarTables:
    """The arrays of a file `grammar.npz`; state 0 is the end, state 1 the start.

    Attributes:
        token_class: uint16 [num_tokens], the class of each token; class 0 never follows, class 1 ends the text.
        steps: int16 [num_rows, num_classes], what is added to a state's number; -32768 where the class cannot follow.
            32767, in the column of class 1 alone, leads to the end.
        row: uint16 [num_states], the row of `steps` that each state has.
        shortest: uint16 [num_states], the fewest tokens to the end, the stop id included.
        forced: int32 [num_states], the token that follows if the text goes on and must go on in one way; else -1.
    """

    token_class: NDArray[np.uint16]
    steps: NDArray[np.int16]
    row: NDArray[np.uint16]
    shortest: NDArray[np.uint16]
    forced: NDArray[np.int32]


class Grammar:
    """Which tokens may follow, and how many there are at least to a whole end.

    States are numbers: `start` before the first token, `next` after each. It may be shared by threads. It costs 2 bytes
    per token of the vocabulary, and up to 64 masks of 1 byte per token.
    """

    start = START

    def __init__(self, tables: GrammarTables, pattern: str | None = None) -> None:
        """Take tables that are sound: compiled now, or checked by `load`.

        Args:
            tables: The tables.
            pattern: The regular expression that they were compiled from; None: nobody says.
        """
        self.tables = tables
        self.pattern = pattern
        self.num_tokens = len(tables.token_class)
        self.num_states = len(tables.row)
        # Views that give plain numbers: reading one costs less than reading an element of an array.
        self._class: memoryview[int] = tables.token_class.data.cast("B").cast("H")
        self._steps: memoryview[int] = tables.steps.data.cast("B").cast("h")
        self._row_start: list[int] = (tables.row.astype("int64") * tables.steps.shape[1]).tolist()
        self._shortest: list[int] = tables.shortest.tolist()
        self._forced: list[int] = tables.forced.tolist()
        self._mask = lru_cache(_MOST_MASKS)(self._new_mask)

    @classmethod
    def load(cls, path: Path, num_tokens: int, stop_ids: Collection[int]) -> Grammar:
        """Read a file that `save` wrote. It costs 20 ms for the form of a rubric.

        Args:
            path: The file.
            num_tokens: Of the tokenizer that it must have been compiled for.
            stop_ids: The tokens that must end a text.

        Raises:
            BundleInvalid: It cannot be read, is not such a file, or contradicts itself, the tokenizer or the stop ids.
        """
        tables = _read(path)
        fault = partial(_fault, path)
        _check_sizes(tables, num_tokens, stop_ids, fault)
        _check_ways(tables, fault)
        _check_forced(tables, fault)
        return cls(tables)

    @classmethod
    def compile(cls, pattern: str, tokenizer: Tokenizer, stop_ids: Collection[int]) -> Grammar:
        """Compile a regular expression now: see `compile_grammar`. It needs the extra `grammar`.

        Raises:
            DependencyMissing: outlines-core is not installed.
            GrammarUnusable: The expression is not one, or too large, or no tokens of this tokenizer spell a whole text.
        """
        from rubricrm.generation.grammar_compiler import compile_grammar

        return compile_grammar(pattern, tokenizer, stop_ids)

    def save(self, path: Path) -> None:
        """Write a file; the same grammar gives the same bytes.

        Raises:
            OSError: It cannot be written.
        """
        import io

        import numpy as np

        contents = io.BytesIO()
        np.savez(contents, **{name: getattr(self.tables, name) for name in _TYPES})
        write_whole(path, contents.getvalue())

    def next(self, state: int, token_id: int) -> int:
        """The state after a token of the tokenizer; REFUSED where it cannot follow. Below a microsecond."""
        kind = self._class[token_id]
        step = self._steps[self._row_start[state] + kind]
        if step == NO_STEP:
            return REFUSED
        return END if kind == ENDS else state + step

    def shortest(self, state: int) -> int:
        """The fewest tokens to a whole end, the stop id included."""
        return self._shortest[state]

    def is_whole(self, state: int) -> bool:
        """Whether the text may end there."""
        return self._steps[self._row_start[state] + ENDS] != NO_STEP

    def is_allowed(self, state: int, token_id: int, tokens_left: int) -> bool:
        """Whether a token may follow, and a whole end still fits into the tokens left, this one included."""
        following = self.next(state, token_id)
        return following != REFUSED and self._shortest[following] < tokens_left

    def allowed(self, state: int, tokens_left: int) -> NDArray[np.bool_]:
        """Which tokens `is_allowed` allows.

        None are where `tokens_left` is below `shortest(state)`. Masks are kept for the states that were asked for last.
        It costs 10 microseconds, and 100 more for a new mask at Qwen3's vocabulary.

        Returns:
            [num_tokens], not to be written to.
        """
        import numpy as np

        row = self._row_start[state] // self.tables.steps.shape[1]
        steps = self.tables.steps[row]
        can_follow = steps != NO_STEP
        following = np.where(can_follow, steps + np.int32(state), END)
        following[ENDS] = END
        return self._mask((can_follow & (self.tables.shortest[following] < tokens_left)).tobytes())

    def forced(self, state: int, limit: int, *, past_ends: bool = False) -> list[int]:
        """The tokens that must follow, as long as what must follow is one text.

        Where several tokens begin that text, these are the ones that the tokenizer makes of it.

        Args:
            state: Where the text is.
            limit: The most tokens to return.
            past_ends: Also go on from where the text could end: what must follow if it does not end there.
        """
        tokens: list[int] = []
        while len(tokens) < limit:
            token_id = self._forced[state]
            if token_id == NOTHING_FORCED or (not past_ends and self.is_whole(state)):
                break
            tokens.append(token_id)
            state = self.next(state, token_id)
        return tokens

    def _new_mask(self, classes: bytes) -> NDArray[np.bool_]:
        import numpy as np

        mask = np.frombuffer(classes, np.bool_)[self.tables.token_class]
        mask.flags.writeable = False
        return mask


def following_states(tables: GrammarTables) -> NDArray[np.int32]:
    """Return [num_states, num_classes], the state after each class; REFUSED where it cannot follow."""
    import numpy as np

    steps = tables.steps[tables.row].astype(np.int32)
    following = np.where(steps == NO_STEP, REFUSED, steps + np.arange(len(steps), dtype=np.int32)[:, None])
    following[:, ENDS] = np.where(steps[:, ENDS] == NO_STEP, REFUSED, END)
    return following


def _read(path: Path) -> GrammarTables:
    import io
    import zipfile
    import zlib

    import numpy as np

    try:
        # Reading a member compares its checksum: numpy's reader then meets no damaged bytes.
        with zipfile.ZipFile(path) as file:
            contents = {name.removesuffix(".npy"): file.read(name) for name in file.namelist()}
        arrays = {
            name: np.load(io.BytesIO(data), allow_pickle=False) for name, data in contents.items() if name in _TYPES
        }
    except (OSError, ValueError, EOFError, MemoryError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise _fault(path, f"cannot be read ({error or type(error).__name__})") from error
    for name, (kind, num_dimensions) in _TYPES.items():
        if name not in arrays:
            raise _fault(path, f"lacks the array {name}")
        if arrays[name].dtype != kind or arrays[name].ndim != num_dimensions:
            got = f"{arrays[name].dtype} of {arrays[name].ndim} dimensions"
            raise _fault(path, f"{name} is {got}, expected {kind} of {num_dimensions}")
    return GrammarTables(**{name: np.ascontiguousarray(arrays[name]) for name in _TYPES})


def _check_sizes(
    tables: GrammarTables, num_tokens: int, stop_ids: Collection[int], fault: Callable[[str], Exception]
) -> None:
    """Refuse tables whose sizes contradict each other, the tokenizer or the stop ids."""
    import numpy as np

    num_rows, num_classes = tables.steps.shape
    num_states = len(tables.row)
    if len(tables.token_class) != num_tokens:
        raise fault(f"is for {len(tables.token_class)} tokens, the tokenizer has {num_tokens}")
    if not (1 < num_states <= MOST_STATES and len(tables.shortest) == len(tables.forced) == num_states):
        raise fault(
            f"has {num_states} rows, {len(tables.shortest)} shortest ways and {len(tables.forced)} forced tokens"
        )
    if num_classes < 2 or tables.token_class.max(initial=0) >= num_classes or tables.row.max() >= num_rows:
        raise fault("names a class or a row that it does not hold")
    if sorted(np.flatnonzero(tables.token_class == ENDS)) != sorted(set(stop_ids)):
        raise fault(f"ends a text at other tokens than the stop ids {sorted(stop_ids)}")


def _check_ways(tables: GrammarTables, fault: Callable[[str], Exception]) -> None:
    """Refuse tables of sound sizes that lead out of themselves, or state ways to the end that are others."""
    import numpy as np

    following, num_states = following_states(tables), len(tables.row)
    if (following[:, NOWHERE] != REFUSED).any() or (following[END] != REFUSED).any():
        raise fault("leads on where nothing can follow")
    if following.min() < REFUSED or following.max() >= num_states:
        raise fault("leads to a state that it does not hold")
    # Only the true distances are each one more than the least of those that follow; some always follow.
    ways = np.append(tables.shortest.astype(np.int32), MOST_STATES)
    are_true = ways[following[1:]].min(axis=1) + 1 == ways[1:-1]
    if ways[END] != 0 or not are_true.all() or ways.max() > MOST_STATES:
        raise fault("states shortest ways that are others")


def _check_forced(tables: GrammarTables, fault: Callable[[str], Exception]) -> None:
    """Refuse forced tokens that do not exist or cannot follow."""
    import numpy as np

    forced = np.flatnonzero(tables.forced != NOTHING_FORCED)
    tokens = tables.forced[forced]
    if tokens.min(initial=0) < 0 or tokens.max(initial=0) >= len(tables.token_class):
        raise fault("forces a token that does not exist")
    if (following_states(tables)[forced, tables.token_class[tokens]] <= END).any():
        raise fault("forces a token that cannot follow")


def _fault(path: Path, what: str) -> BundleInvalid:
    return BundleInvalid(f"{path}: {what}. Copy or export the bundle again.")
