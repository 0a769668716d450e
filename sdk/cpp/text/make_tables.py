"""Write unicode_tables.cpp: what the library `tokenizers` knows of each character.

    python sdk/cpp/text/make_tables.py            # writes the file beside this script
    python sdk/cpp/text/make_tables.py --check    # exit code 1 if the file is not what it would write

The library holds the tables of three versions of Unicode, each older or newer than those of other programs. So the
library itself is asked about each code point. Of combining classes it shows the order alone; their numbers are those of
Python's `unicodedata`, which never change once given, and the order that they make is compared with the library's.
"""

from __future__ import annotations

import itertools
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, normalizers, pre_tokenizers  # noqa: TID253 - a script, no part of the package

OUTPUT = Path(__file__).with_name("unicode_tables.cpp")
CHARACTERS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)
BLOCK = 128

nfc = normalizers.NFC().normalize_str
nfd = normalizers.NFD().normalize_str


def demand(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"make_tables.py: the library and this script differ: {what}")


def matched(pattern: str) -> set[str]:
    """The characters that a regular expression of one character matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    left = {c for part in parts(CHARACTERS, 4096) for text, _ in split.pre_tokenize_str("".join(part)) for c in text}
    return set(CHARACTERS) - left


def numeric() -> set[str]:
    """The characters that the pre-tokenizer Digits stands apart."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    texts = ("aa" + "aa".join(part) + "aa" for part in parts(CHARACTERS, 4096))
    return {piece for text in texts for piece, _ in digits.pre_tokenize_str(text) if len(piece) == 1}


def changed(normalize: Callable[[str], str], before: str, after: str = "") -> Iterator[str]:
    """The characters that do not stay what they are between two texts, of which the first begins a run."""
    for part in parts(CHARACTERS, 256):
        text = "".join(before + c + after for c in part)
        if normalize(text) != text:
            yield from (c for c in part if normalize(before + c + after) != before + c + after)


def combining_classes() -> dict[str, int]:
    """The class of each character that normalization may move."""
    moves = {*changed(nfd, "a", "\u0334"), *changed(nfd, "a\u0345")}
    # What decomposes is told by what it decomposes to.
    classes = {c: unicodedata.combining(c) for c in sorted(moves) if nfd(c) == c}
    demand(all(classes.values()), "Python's unicodedata is older than the library")
    kinds = {number: c for c, number in classes.items()}
    for c, number in classes.items():
        for other_number, other in kinds.items():
            moves_before = nfd("a" + c + other) == "a" + other + c
            demand(moves_before == (other_number < number or c == other), f"the order of {c!a} and {other!a}")
    return classes


def decompositions() -> dict[str, tuple[str, str]]:
    """One step of the decomposition of each character but Hangul; the second is NUL where it is one character."""
    steps: dict[str, tuple[str, str]] = {}
    for c in changed(nfd, "\n"):
        if ord(c) not in HANGUL:
            first, second, *_ = (*(chr(int(p, 16)) for p in unicodedata.decomposition(c).split()), "\0")
            steps[c] = first, second
    for c in steps:
        demand(nfd(c) == "".join(in_full(c, steps)), f"the decomposition of {c!a}")
    return steps


def in_full(c: str, steps: dict[str, tuple[str, str]]) -> Iterator[str]:
    if c not in steps:
        yield c
        return
    for part in steps[c]:
        if part != "\0":
            yield from in_full(part, steps)


def compositions(steps: dict[str, tuple[str, str]]) -> dict[tuple[str, str], str]:
    pairs = {pair: c for c, pair in steps.items() if pair[1] != "\0" and nfc("".join(pair)) == c}
    firsts, seconds = {first for first, _ in pairs}, {second for _, second in pairs}
    for pair in itertools.product(sorted(firsts), sorted(seconds)):
        # Marks of a first that itself decomposes could move.
        if nfd(pair[0]) == pair[0]:
            demand((len(nfc("".join(pair))) == 1) == (pair in pairs), f"the composition of {pair!a}")
    return pairs


def classes_of_characters(
    combining: dict[str, int], steps: dict[str, tuple[str, str]], pairs: dict[tuple[str, str], str]
) -> list[int]:
    """One byte per code point: the bits of CharacterClass in unicode.h."""
    seconds = {second for _, second in pairs} | {chr(c) for c in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}

    def continues(c: str) -> bool:
        first = next(in_full(c, steps))
        return first in combining or first in seconds

    bits = [0] * 0x110000
    for bit, members in enumerate(
        (
            matched(r"\p{L}"),
            matched(r"\p{N}"),
            matched(r"\s"),
            numeric(),
            {c for c in CHARACTERS if continues(c)},
            set(changed(nfc, "\n")),
        )
    ):
        for c in members:
            bits[ord(c)] |= 1 << bit
    return bits


def source() -> str:
    combining, steps = combining_classes(), decompositions()
    pairs = compositions(steps)
    index, blocks = two_levels(classes_of_characters(combining, steps, pairs))
    by_code = sorted((ord(c), *map(ord, pair)) for c, pair in steps.items())
    by_pair = sorted((*map(ord, pair), ord(c)) for pair, c in pairs.items())
    return "\n".join(
        (
            "// Made by make_tables.py: not for editing.",
            '#include "text/unicode.h"',
            "",
            "namespace rubricrm {",
            "",
            f"const uint8_t kClassIndex[{len(index)}] = {{",
            *wrapped(map(str, index)),
            "};",
            "",
            f"const uint8_t kClassBlocks[][{BLOCK}] = {{",
            *(line for block in blocks for line in ("{", *wrapped(map(str, block)), "},")),
            "};",
            "",
            f"const CombiningRange kCombiningRanges[{len(runs(combining))}] = {{",
            *wrapped(f"{{0x{first:X}, 0x{last:X}, {number}}}" for first, last, number in runs(combining)),
            "};",
            "",
            f"const Decomposition kDecompositions[{len(by_code)}] = {{",
            *wrapped(f"{{0x{c:X}, 0x{a:X}, 0x{b:X}}}" for c, a, b in by_code),
            "};",
            "",
            f"const Composition kCompositions[{len(by_pair)}] = {{",
            *wrapped(f"{{0x{a:X}, 0x{b:X}, 0x{c:X}}}" for a, b, c in by_pair),
            "};",
            "",
            f"const size_t kNumCombiningRanges = {len(runs(combining))};",
            f"const size_t kNumDecompositions = {len(by_code)};",
            f"const size_t kNumCompositions = {len(by_pair)};",
            "",
            "}  // namespace rubricrm",
            "",
        )
    )


def two_levels(values: list[int]) -> tuple[list[int], list[tuple[int, ...]]]:
    blocks: dict[tuple[int, ...], int] = {}
    index = [blocks.setdefault(tuple(block), len(blocks)) for block in parts(values, BLOCK)]
    demand(len(blocks) <= 256, "an index of one byte")
    return index, list(blocks)


def runs(combining: dict[str, int]) -> list[tuple[int, int, int]]:
    """First, last and class of neighbors of one class."""
    found: list[tuple[int, int, int]] = []
    for c, number in sorted(combining.items()):
        if found and found[-1][1:] == (ord(c) - 1, number):
            found[-1] = (found[-1][0], ord(c), number)
        else:
            found.append((ord(c), ord(c), number))
    return found


def parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def wrapped(words: Iterable[str]) -> list[str]:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > 115:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{word},"
    return lines


def main() -> int:
    text = source()
    if "--check" in sys.argv[1:]:
        return int(OUTPUT.read_text("utf-8") != text)
    OUTPUT.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
