"""Writes codes.h, tables.h and tables.cpp: the Python package's patterns as programs, and facts about characters.

    PYTHONPATH=sdk/python python sdk/cpp/rubric/make_pattern_tables.py

With --check it writes nothing, and fails where a file is not what it would write. The tables are those of the Unicode
version that Python 3.11 has, which must be the one that runs this.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import rubricrm.rubric
from character_facts import PREDICATES, check_what_the_library_takes_for_granted, folded, numeral_characters
from pattern_program import (
    CLASSES,
    EVERY_CHARACTER,
    NO_LIMIT,
    OPERATIONS,
    Program,
    Ranges,
    camel,
    members,
    require,
    where,
)
from rubricrm.rubric import form, numeral
from rubricrm.rubric.lazy_pattern import _LazyPattern

UNICODE = "14.0.0"
HERE = Path(__file__).resolve().parent
# The export reads prompts with these; the library takes what the export found from the bundle's manifest.
LEFT_OUT = {"thought"}


def lazy_patterns() -> dict[str, dict[str, _LazyPattern]]:
    """The patterns of the package by module and name."""
    found = {}
    for module in pkgutil.iter_modules(rubricrm.rubric.__path__):
        values = vars(importlib.import_module(f"rubricrm.rubric.{module.name}"))
        patterns = {name: value for name, value in values.items() if isinstance(value, _LazyPattern)}
        if patterns and module.name not in LEFT_OUT:
            found[module.name] = patterns
    return found


def group_numbers(patterns: dict[str, dict[str, _LazyPattern]]) -> dict[str, int]:
    """Each name of a group in any pattern, by its number in all of them: `Group` in C++."""
    every = [re.compile(p._text, p._flags) for named in patterns.values() for p in named.values()]
    return {name: number for number, name in enumerate(sorted({name for p in every for name in p.groupindex}), 1)}


def within(ranges: Ranges, least: int, most: int) -> Ranges:
    """What of a class lies between two code points."""
    return tuple((max(first, least), min(last, most)) for first, last in ranges if first <= most and last >= least)


def wrapped(items: Iterable[object], indent: str = "    ") -> str:
    lines, line = [], indent
    for item in items:
        text = f"{item},"
        if len(line) + len(text) > 119:
            lines.append(line.rstrip())
            line = indent
        line += text + " "
    return "\n".join([*lines, line.rstrip()])


def quoted(text: str, width: int = 110) -> str:
    """A string of C++, in several lines."""
    require(text.isascii(), "a string is not ASCII")
    lines = [""]
    for character in text:
        written = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}.get(character, character)
        if len(lines[-1]) + len(written) > width:
            lines.append("")
        lines[-1] += written
    return "\n".join(f'    "{line}"' for line in lines)


NOTE = "// Written by make_pattern_tables.py: do not edit. Unicode " + UNICODE + ".\n"


def header(patterns: dict[str, dict[str, _LazyPattern]]) -> str:
    lines = [
        NOTE + '#pragma once\n\n#include "rubric/pattern.h"\n\nnamespace rubricrm::rubric {\n',
        "// Classes of characters by what Python says of them.\nnamespace character_class {",
        *(f"extern const CharacterClass {name};  // {what}" for name, (what, _) in PREDICATES.items()),
        "}  // namespace character_class\n",
        "// The patterns of rubricrm.rubric, by module; a name there such as _EARLY_TAG is kEarlyTag here.",
        "namespace patterns {",
    ]
    for module, named in patterns.items():
        lines.append(f"namespace {module} {{")
        lines += [f"extern const Pattern {camel(name)};" for name in named]
        lines.append(f"}}  // namespace {module}")
    lines += [
        "// Each of them, for tests.\nextern const Pattern* const kAll[];\nextern const size_t kNumPatterns;",
        "}  // namespace patterns\n",
        "// str.casefold where it is not the character itself: up to three characters, then zeros.",
        "struct CaseFolding {\n  char32_t character;\n  char32_t folded[3];\n};",
        "extern const CaseFolding kCaseFoldings[];\nextern const size_t kNumCaseFoldings;\n",
        "// A character of a numeral in normal form NFKC and case-folded (then zeros), and the numbers that it stands",
        "// for alone, the likeliest first (then -1).",
        "struct NumeralCharacter {\n  char32_t character;\n  char32_t folded[4];\n  int16_t values[2];\n};",
        "extern const NumeralCharacter kNumeralCharacters[];\nextern const size_t kNumNumeralCharacters;\n",
        "// Parts of the form: an item as a regular expression, and the grammar's rules for it.",
        "extern const char kItemRegex[];\nextern const char kItemRules[];\n",
        "}  // namespace rubricrm::rubric\n",
    ]
    return "\n".join(lines)


def source(patterns: dict[str, dict[str, _LazyPattern]], groups: dict[str, int]) -> str:
    programs = {(m, n): Program(p, groups) for m, named in patterns.items() for n, p in named.items()}
    predicates = {name: CLASSES.id_of(where(holds)) for name, (_, holds) in PREDICATES.items()}
    firsts = {key: CLASSES.id_of(program.first) for key, program in programs.items() if program.first is not None}
    classes = list(CLASSES.ids)
    starts = [0]
    for ranges in classes:
        starts.append(starts[-1] + len(ranges))
    parts = [
        NOTE + '#include "rubric/tables.h"\n\nnamespace rubricrm::rubric {\nnamespace {\n',
        "constexpr CharacterRange kRanges[] = {",
        wrapped(f"{{{first:#x}, {last:#x}}}" for ranges in classes for first, last in ranges),
        "};\n",
    ]
    body = []
    for ranges, start in zip(classes, starts, strict=False):
        bits = [sum(1 << code - base for code in members(within(ranges, base, base + 63))) for base in (0, 64)]
        body.append(f"{{{{{bits[0]:#x}, {bits[1]:#x}}}, kRanges + {start}, {len(ranges)}}}")
    parts += ["constexpr CharacterClass kClasses[] = {", wrapped(body), "};\n", "constexpr uint16_t kPrograms[] = {"]
    parts += [wrapped(word for program in programs.values() for word in program.words), "};\n", "}  // namespace\n"]
    parts += ["namespace character_class {"]
    parts += [f"const CharacterClass {name} = kClasses[{number}];" for name, number in predicates.items()]
    parts += ["}  // namespace character_class\n", "namespace patterns {"]
    start = 0
    for module, named in patterns.items():
        parts.append(f"namespace {module} {{")
        for name in named:
            key = (module, name)
            first = f"&kClasses[{firsts[key]}]" if key in firsts else "nullptr"
            parts.append(f'const Pattern {camel(name)}("{module}.{name}", kPrograms + {start}, kClasses, {first});')
            start += len(programs[key].words)
        parts.append(f"}}  // namespace {module}")
    parts += ["const Pattern* const kAll[] = {", wrapped(f"&{m}::{camel(n)}" for m, n in programs), "};"]
    parts += [f"const size_t kNumPatterns = {len(programs)};", "}  // namespace patterns\n"]
    parts += [*tables_of_characters(patterns), *tables_of_words(), "}  // namespace rubricrm::rubric\n"]
    return "\n".join(parts)


def tables_of_characters(patterns: dict[str, dict[str, _LazyPattern]]) -> list[str]:
    foldings = [(c, c.casefold()) for c in EVERY_CHARACTER if c.casefold() != c]
    rows = []
    for c in numeral_characters(patterns["mark"].values()):
        fold, values = folded(c), numeral._values(folded(c).strip("()., "))
        require(len(fold) <= 4, f"{c!r} folds to more characters")
        require(len(values) <= 2, f"{c!r} stands for more numbers")
        rows.append(f"{{{ord(c):#x}, {{{braced(fold)}}}, {{{', '.join(map(str, [*values, -1, -1][:2]))}}}}}")
    return [
        "const CaseFolding kCaseFoldings[] = {",
        wrapped(f"{{{ord(c):#x}, {{{braced(to)}}}}}" for c, to in foldings),
        "};",
        f"const size_t kNumCaseFoldings = {len(foldings)};\n",
        "const NumeralCharacter kNumeralCharacters[] = {",
        wrapped(rows),
        "};",
        f"const size_t kNumNumeralCharacters = {len(rows)};\n",
    ]


def braced(text: str) -> str:
    return ", ".join(f"{ord(c):#x}" for c in text)


def tables_of_words() -> list[str]:
    rules = form.gbnf(1).splitlines(keepends=True)
    require(rules[0] == 'root ::= "1. " item " "? "\\n"?\n', "the grammar has another root")
    return [
        f"const char kItemRegex[] =\n{quoted(form._ITEM.regex())};\n",
        f"const char kItemRules[] =\n{quoted(''.join(rules[1:]))};\n",
    ]


def main() -> None:
    """Write the files, or compare them."""
    if unicodedata.unidata_version != UNICODE:
        sys.exit(f"this Python has Unicode {unicodedata.unidata_version}, expected {UNICODE}: run Python 3.11.")
    check_what_the_library_takes_for_granted()
    patterns = lazy_patterns()
    groups = group_numbers(patterns)
    files = {"tables.h": header(patterns), "tables.cpp": source(patterns, groups), "codes.h": codes(groups)}
    if "--check" not in sys.argv:
        for name, text in files.items():
            (HERE / name).write_text(text, encoding="utf-8")
        return
    stale = [name for name, text in files.items() if (HERE / name).read_text(encoding="utf-8") != text]
    if stale:
        sys.exit(f"{', '.join(stale)}: not what make_pattern_tables.py writes now. Run it and commit what it writes.")


def codes(groups: dict[str, int]) -> str:
    """The vocabulary that patterns and programs share."""
    return "\n".join(
        [
            NOTE + "#pragma once\n\n#include <cstdint>\n\nnamespace rubricrm::rubric {\n",
            "// What a word of a pattern's program says; pattern.cpp says what each one means.",
            "enum class Operation : uint16_t {",
            *(f"  k{name}," for name in OPERATIONS),
            "};\n",
            f"constexpr uint16_t kNoLimit = {NO_LIMIT:#x};  // of a repeat\n",
            "// The named groups of all patterns.",
            "enum class Group : uint8_t {",
            "  kWhole,",
            *(f"  {camel(name)}," for name in groups),
            "};\n",
            f"constexpr int kNumGroups = {len(groups) + 1};\n",
            "}  // namespace rubricrm::rubric\n",
        ]
    )


if __name__ == "__main__":
    main()
