"""Phrases of finished rubrics, from which the next ones are drafted. Its owner decides who shares one.

A table is in memory alone unless its owner saves it. Drafts never change what is written, but they change how long it
takes: whoever shares a table with others could tell by the time what theirs wrote. One table per tenant separates them.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubricrm.generation.item_number import NUMBER, ItemNumbers, Reading
from rubricrm.generation.next_token import NextToken, symbols_of
from rubricrm.runtime.cache_directory import own_directory
from rubricrm.runtime.whole_file import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

MOST_ENTRIES = 1 << 16
BYTES_PER_ENTRY = 110  # of memory, measured: two integers and their share of the dictionary, 93 to 124
_FORMAT = "1"
_KEPT = 0.75


@dataclass(frozen=True)
class Phrase:
    """Four tokens of which the last is foreseen after the first three; `NUMBER` stands for any number."""

    symbols: tuple[int, ...]
    hits: int

    def text(self, decode: Callable[[Sequence[int]], str]) -> str:
        """Return the phrase as text, with "#" for a number."""
        parts: list[list[int]] = [[]]
        for symbol in self.symbols:
            if symbol == NUMBER:
                parts.append([])
            else:
                parts[-1].append(symbol)
        return "#".join(decode(part) for part in parts)


class PhraseTable:
    """What followed each context of up to three tokens in finished rubrics. It may be shared by threads.

    It never holds more than `most_entries` contexts (a rubric of 200 tokens adds up to 600). When it is full, a quarter
    is freed, the oldest first: what was seen once is dropped, what was seen more often stays with half its count. So
    what is common stays, and what was common long ago leaves. Recency alone (LRU) would let one day of odd requests
    drive out the common phrases, and frequency alone would never let go of them.

    Args:
        numbers: Of the tokenizer that the tokens belong to.
        most_entries: The bound, 65,536 contexts by default (7 MB). At least 4.
    """

    def __init__(self, numbers: ItemNumbers, most_entries: int = MOST_ENTRIES) -> None:
        self.most_entries = most_entries
        self._numbers = numbers
        self._lock = threading.Lock()
        self._next = NextToken()

    @property
    def entries(self) -> Mapping[int, int]:
        """As `NextToken.entries`, to look up only. Another thread may add to it meanwhile, or put another in place."""
        return self._next.entries

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes."""
        return len(self._next.entries) * BYTES_PER_ENTRY

    def learn(self, token_ids: Iterable[int]) -> None:
        """Take in the tokens of a finished rubric (0.15 ms for 200; 5 ms more where a full one shrinks)."""
        reading = Reading(self._numbers)
        with self._lock:
            for token_id in token_ids:
                context, symbol = reading.context, reading.read(token_id)
                if symbol >= 0:
                    self._next.count(context, symbol)
                if len(self._next.entries) + 3 > self.most_entries:  # room for the next symbol's contexts
                    self._shrink()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._next = NextToken()

    def phrases(self, most: int = 20) -> list[Phrase]:
        """Return the surest phrases of four tokens, the most frequent first."""
        with self._lock:
            entries = list(self._next.entries.items())
        found = [Phrase((*symbols_of(key), entry >> 8), entry >> 4 & 15) for key, entry in entries if key >> 40]
        return sorted(found, key=lambda phrase: (-phrase.hits, phrase.symbols))[:most]

    def save(self, path: Path, tokenizer_sha256: str) -> None:
        """Write all entries to a file, whole or not at all (16 bytes per entry).

        Raises:
            OSError: It cannot be written; what was there before stays.
        """
        import numpy as np
        from safetensors.numpy import save

        with self._lock:
            entries = list(self._next.entries.items())
        pairs: NDArray[np.int64] = np.array(entries, np.int64).reshape(len(entries), 2)
        metadata = {"format": _FORMAT, "tokenizer_sha256": tokenizer_sha256, "sha256": _digest(pairs)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, save({"entries": pairs}, metadata))

    @classmethod
    def load(
        cls, path: Path, numbers: ItemNumbers, tokenizer_sha256: str, most_entries: int = MOST_ENTRIES
    ) -> PhraseTable:
        """Return the table of a file; an empty one where there is no such file, or with a warning if it is no use.

        That is a damaged file, one of another tokenizer, and one that cannot be read. It stays as it is.
        """
        table = cls(numbers, most_entries)
        try:
            pairs = _read(path, tokenizer_sha256)
        except FileNotFoundError:
            return table
        except (OSError, ValueError) as error:
            logger.warning("%s: its phrases are not used (%s). `rubricrm phrases --clear` removes it.", path, error)
            return table
        table._next.entries = dict(pairs.tolist())
        while len(table._next.entries) > most_entries:
            table._shrink()
        return table

    def _shrink(self) -> None:
        """Free a quarter, from the oldest entries on: a count of one goes, others are halved and count as new."""
        entries: dict[int, int] = self._next.entries
        excess = len(entries) - int(self.most_entries * _KEPT)
        while excess > 0:
            oldest, halved = iter(entries.items()), {}
            for key, entry in oldest:
                if hits := (entry >> 4 & 15) // 2:
                    halved[key] = entry >> 8 << 8 | hits << 4 | (entry & 15) // 2
                else:
                    excess -= 1
                    if excess == 0:
                        break
            entries = dict(oldest) | halved
        # In place of the old dictionary, which another thread may be reading.
        self._next.entries = entries


def saved_table(manifest_sha256: str) -> Path:
    """Return where the phrases of a bundle's rubrics are saved on this machine, if its owner asks for it.

    Raises:
        OSError: As `runtime.cache_directory.own_directory`.
    """
    return own_directory(manifest_sha256) / "phrases.safetensors"


def is_table(path: Path) -> bool:
    """Whether a file says that it holds phrases, whatever tokenizer they are of."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as tensors:
            return "tokenizer_sha256" in (tensors.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _digest(pairs: NDArray[Any]) -> str:
    return hashlib.sha256(pairs.tobytes()).hexdigest()


def _read(path: Path, tokenizer_sha256: str) -> NDArray[Any]:
    """Return the pairs of a file.

    Raises:
        ValueError: It is damaged, or of another tokenizer; the text says which. OSError: It cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb"):  # whose error says more than the library's
        pass
    try:
        with safe_open(path, framework="np") as tensors:
            metadata = tensors.metadata() or {}
            pairs: NDArray[Any] = tensors.get_tensor("entries")
    except SafetensorError as error:
        raise ValueError(f"it is damaged: {error}") from error
    if metadata.get("format") != _FORMAT or pairs.shape[1:] != (2,) or metadata.get("sha256") != _digest(pairs):
        raise ValueError("it is damaged")
    if metadata.get("tokenizer_sha256") != tokenizer_sha256:
        raise ValueError("it is of another tokenizer")
    return pairs
