r"""The form of a rubric, defined once: for servers a regular expression, for llama.cpp a GBNF, for the parser a line.

    1. The response TEXT [Hard Rule]
    2. The response TEXT [Principle]

Items are numbered from 1 without a gap. A line ends after its tag, or one space after it, and no line follows the last
but an empty one. TEXT is what can be one criterion and nothing else:

- characters that one sees, between single spaces: no line break, no tab, no control or zero-width character;
- no backslash, no closing tag or control token (`<` goes on with a letter, a digit, `=` or `<`), and in square brackets
  a few plain words that name no kind: `[address]`;
- after the end of a sentence or a colon, and a space, a letter or a quotation mark: `short. 2. The response` is not one
  criterion but two;
- at its end a letter, a digit, or a mark that can end a sentence.
"""

from __future__ import annotations

from rubricrm.rubric.criterion import Kind
from rubricrm.rubric.expression import Characters, Expression, Literal, Rule

MAX_ITEMS = 40
"""More items than any published rubric has, twelve being the most."""

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
_VISIBLE = Characters.of('"-~' + _LETTERS + _SIGNS).without(f"{_BREAKS}[]<\\")
_BREAK = Characters.of(_BREAKS) + Characters.of(f"{_BREAKS}{_CLOSERS}{_MARKUP}").star()
_AFTER_BREAK = Characters.of("-#$%&(+,/0-9;=>@A-Z^a-z{|}" + _LETTERS) | (
    Literal(" ") + Characters.of("A-Za-z\"'`“‘«「『" + _LETTERS)
)
_BRACKETED = (
    Literal("[") + Characters.of("0-9A-GI-OQ-Za-gi-oq-z") + Characters.of("-0-9A-Za-z '\"_.,/").star() + Literal("]")
)
_ANGLE = Literal("<") + Characters.of("0-9A-Za-z=<")
_LAST = Characters.of("0-9A-Za-z%+#}`" + _CLOSERS + _LETTERS) | (
    Characters.of(_ENDS) + Characters.of(_ENDS + _CLOSERS).star()
)
_TEXT = Rule("text", ((_VISIBLE | (_BREAK + _AFTER_BREAK) | _BRACKETED | _ANGLE) + _SPACE).star() + _LAST)
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


def _numbered(number: int) -> Expression:
    return Literal(f"{number}. ") + _ITEM + _SPACE


def _rubric(max_items: int) -> Expression:
    """A rubric of 1 to so many items; the last line may have an end, as `Rubric.render` writes it."""
    lines = _numbered(max_items)
    for number in range(max_items - 1, 0, -1):
        lines = _numbered(number) + (Literal("\n") + lines).optional()
    return lines + Literal("\n").optional()


def regex(max_items: int = MAX_ITEMS) -> str:
    """Return a regular expression that a whole rubric matches, without anchors, for a server's structured output."""
    return _rubric(max_items).regex()


def gbnf(max_items: int = MAX_ITEMS) -> str:
    """Return a grammar of llama.cpp that a whole rubric matches."""
    rules = {"root": _rubric(max_items), "item": _ITEM.part, "text": _TEXT.part}
    return "".join(f"{name} ::= {rule.gbnf()}\n" for name, rule in rules.items())
