r"""The form of a rubric, defined once: for servers a regular expression, for llama.cpp a GBNF, for the parser a line.

    1. The response TEXT [Hard Rule]
    2. The response TEXT [Principle]

Items are numbered from 1 without a gap. A line ends after its tag, or one space after it, and no line follows the last
but an empty one. TEXT is what can be one criterion and nothing else:

- characters that one sees, between single spaces: no line break, no tab, no control or zero-width character;
- no backslash, no tag and no control token: `<` goes on with a digit, `=` or `<`, and in square brackets stand numbers,
  quoted texts or a few plain words that name no kind: `[1, 2]`, `[address]`;
- after the end of a sentence or a colon, and a space, a letter or a quotation mark: `short. 2. The response` is not one
  criterion but two;
- at its end a letter, a digit, or a mark that can end a sentence.
"""

from __future__ import annotations

from typing import NamedTuple

from rubricrm.errors import OptionInvalid, RubricMalformed
from rubricrm.rubric.criterion import Kind
from rubricrm.rubric.expression import Characters, Expression, Literal, Rule
from rubricrm.rubric.lazy_pattern import lazy_pattern

MAX_ITEMS = 40
"""More items than any published rubric has: the longest has 12."""

# An expression in more parentheses than Rust's `regex` reads is of no use.
_MOST_ITEMS = 64

# Scripts, then signs and pictures, without what nobody sees: spaces other than " ", zero-width and format characters,
# fillers, private use, and U+FFFD, which stands for bytes of no character.
_LETTERS = (
    "\xc0-\u02ff\u0370-\u05ff\u0620-\u06dc\u0900-\u115e\u1161-\u167f\u1e00-\u1fff\u3041-\u3163\u3165-\u9fff"
    "\uac00-\ud7a3"
)
_SIGNS = (
    "\xa1-\xac\xae-\xbf\u0300-\u034e\u0710-\u07ff\u1681-\u17b3\u17b6-\u1800\u1810-\u1dff\u2010-\u2027\u2030-\u205e"
    "\u2070-\u27ff\u2900-\u2fff\u3001-\u3040\ufe30-\ufe6f\uff01-\uff9f\U0001d300-\U0001faff"
)
_ENDS = ".!?…。！？"
_BREAKS = f"{_ENDS}:："
_CLOSERS = "\"'”’»」』)）"
_MARKUP = "*_`~"

_SPACE = Literal(" ").optional()
_VISIBLE = Characters.of('"-~' + _LETTERS + _SIGNS).without(f"{_BREAKS}[<\\")
_BREAK = Characters.of(_BREAKS) + Characters.of(f"{_BREAKS}{_CLOSERS}{_MARKUP}").star()
_AFTER_BREAK = Characters.of("-#$%&(+,/0-9;=>@A-Z^a-z{|}" + _LETTERS) | (
    Literal(" ") + Characters.of("A-Za-z\"'`“‘«「『" + _LETTERS)
)
# A list of numbers or texts, and a few words such as a placeholder has: neither can be a tag or a control token.
_LISTED = Literal("[") + Characters.of("-0-9\"'[")
_WORDS = (
    Literal("[") + Characters.of("A-DF-GJ-OQSU-Za-gi-oq-z") + Characters.of("-0-9A-Za-z '\"_.,/").star() + Literal("]")
)
_ANGLE = Literal("<") + Characters.of("0-9=<")
_LAST = Characters.of("0-9A-Za-z%+#}`" + _CLOSERS + _LETTERS) | (
    Characters.of(_ENDS) + Characters.of(_ENDS + _CLOSERS).star()
)
_TEXT = Rule("text", ((_VISIBLE | (_BREAK + _AFTER_BREAK) | _LISTED | _WORDS | _ANGLE) + _SPACE).star() + _LAST)
_TAG = Literal(Kind.HARD_RULE.tag) | Literal(Kind.PRINCIPLE.tag)
_ITEM = Rule(
    "item",
    Literal("The response")
    + ((Characters.of("'’") + Literal("s")) | Literal(",")).optional()
    + Literal(" ")
    + _TEXT
    + Literal(" ")
    + _TAG,
)


# What a line of a rubric is, whatever its number.
_LINE = lazy_pattern(rf"(?P<number>[1-9][0-9]?)\. (?P<item>{_ITEM.regex()}){_SPACE.regex()}")


class FormLine(NamedTuple):
    """A line in the form: its number, where its text starts, where its tag starts and ends, and the tag's kind."""

    number: int
    start: int
    tag_start: int
    tag_end: int
    kind: Kind


def read_line(line: str) -> FormLine | None:
    """Read a line without its break; None where it is not in the form. The cost is linear in its length."""
    if not line[:1].isdecimal() or line[-2:].rstrip(" ")[-1:] != "]":  # which is quick to tell of most other lines
        return None
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    start, end = match.span("item")
    kind = Kind.HARD_RULE if line.endswith(Kind.HARD_RULE.tag, 0, end) else Kind.PRINCIPLE
    return FormLine(int(match["number"]), start, end - len(kind.tag), end, kind)


def check_form(text: str, max_items: int = MAX_ITEMS) -> None:
    """Refuse a text that `regex` does not match.

    Raises:
        RubricMalformed: The message says which line is not in the form.
    """
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        read = read_line(line)
        if read is None or read.number != number:
            expected = f'"{number}. The response ... {Kind.HARD_RULE.tag}" or "... {Kind.PRINCIPLE.tag}"'
            raise RubricMalformed(f"line {number} is {line!r:.80}, expected {expected}. Generate the rubric again.")
    if len(lines) > max_items:
        raise RubricMalformed(f"there are {len(lines)} items, expected at most {max_items}. Generate the rubric again.")


def line_out_of_form(text: str, *, is_cut: bool) -> int | None:
    """Return the number, from 1, of the first line that `regex` does not match there; None: there is none.

    Args:
        text: A rubric.
        is_cut: Whether it may end anywhere: its last line is then not looked at.
    """
    lines = text.split("\n") if is_cut else text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines[: -1 if is_cut else None], 1):
        read = read_line(line)
        if read is None or read.number != number or number > MAX_ITEMS:
            return number
    return None


def regex(max_items: int = MAX_ITEMS) -> str:
    """Return a regular expression that a whole rubric matches, without anchors: for a server's structured output.

    It is read alike by Python's `re`, by Rust's `regex` and by what is built on them. It holds about 1,200 characters
    per item, since the numbers are in it.

    Raises:
        OptionInvalid: `max_items` is not from 1 to 64.
    """
    return _rubric(max_items).regex()


def gbnf(max_items: int = MAX_ITEMS) -> str:
    """Return a grammar of llama.cpp that a whole rubric matches.

    Raises:
        OptionInvalid: `max_items` is not from 1 to 64.
    """
    rules = {"root": _rubric(max_items), _ITEM.name: _ITEM.part, _TEXT.name: _TEXT.part}
    return "".join(f"{name} ::= {rule.gbnf()}\n" for name, rule in rules.items())


def _rubric(max_items: int) -> Expression:
    """One to so many lines; the last one may have a line break, as `Rubric.render` writes it."""
    if not 1 <= max_items <= _MOST_ITEMS:
        raise OptionInvalid(f"max_items must be from 1 to {_MOST_ITEMS}, got {max_items}.")
    lines = _numbered(max_items)
    for number in range(max_items - 1, 0, -1):
        lines = _numbered(number) + (Literal("\n") + lines).optional()
    return lines + Literal("\n").optional()


def _numbered(number: int) -> Expression:
    return Literal(f"{number}. ") + _ITEM + _SPACE
