"""The tags that say which kind an item is: `[Hard Rule]`, `[Principle]`, and what models write in their place.

Every pattern is linear: it starts at a fixed character, and no two neighboring repeats can match the same text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rubricrm.rubric.criterion import Kind
from rubricrm.rubric.lazy_pattern import lazy_pattern
from rubricrm.rubric.phrase import ESCAPED_BREAK, ends_sentence, opens_response

# The names of the two kinds, for patterns: English, Chinese, Japanese, Korean. A line may wrap inside one.
_HARD_RULE = (
    r"hard(?:[\s_-]|&nbsp;)*+rules?|硬\s*性?\s*[规規要约約][则則求束]|硬\s*性?\s*规\s*则|[强強]制(?:性)?[规規要][则則求]|ハードルール"
    r"|必須(?:ルール|規則|条件)|하드\s*룰|필수\s*규칙"
)
_PRINCIPLE = r"principles?|(?:(?:一般|通用)\s*)?原\s*[则則]|プリンシプル|원칙"
NAME = f"(?:(?P<hard_rule>{_HARD_RULE})|(?P<principle>{_PRINCIPLE}))"
_OTHER_NAME = lazy_pattern("[硬强強ハ必하필原プ원]")
_NAME_ENDS = ("rule", "rules", "principle", "principles", "则", "則", "求", "束", "ル", "件", "룰", "칙")

# Square brackets always hold a tag; others only at the end of a sentence or of an item, or at its start.
_SQUARE = "[［【〔〖"
_OPENING = r"(?P<opening>[\[［【〔〖(（{｛<＜〈](?:\\?[\[［【〔〖(（{｛<＜〈]){0,2}/?)"
_CLOSING = r"(?:\\?[\]］】〕〗)）}｝>＞〉]){1,3}"
_LABEL = r"(?:(?:type|kind|category|tag|label|classification|类型|类别|类)[*_]{0,3}\s*[:：][\s*_]*+)"
_DETAIL = r"(?:[\s:#.-]{0,3}\d{1,3}|\s*[,;:|/(–—-][^\[\]［］【】<>{}]{0,40})"  # "[Hard Rule, weight 3]"
_CORE = rf"{_OPENING}[\s*_`~]*+{_LABEL}?{NAME}{_DETAIL}?[\s*_`~]*+{_CLOSING}"
_HTML = r"(?:</?(?:strong|b|em|i|u|s|code|mark|kbd|span|font|small|big|sub|sup|tt|ins|del)(?:\s[^<>]{0,60})?>|<!--|-->)"
_MARKUP = rf"(?:[*_`~=]{{1,3}}+|{_HTML}\s?)"
_LATEX = r"\$?\\[a-z]{2,8}\{?|\\|\$"
_TAG = lazy_pattern(_CORE, re.IGNORECASE)
_LINK = r"(?:\((?:#|https?:)[^()\s]{0,99}\))?"
_AFTER_EARLY_TAG = rf"(?:\s++|[.,;:|/。．：，—–-]++[*_]{{0,3}}|{ESCAPED_BREAK})*+"
_EARLY_TAG = lazy_pattern(rf"{_MARKUP}{{0,4}}+\\?{_CORE}{_LINK}{_MARKUP}{{0,4}}+{_AFTER_EARLY_TAG}", re.IGNORECASE)
_MARKUP_BEFORE = lazy_pattern(rf"(?:{_MARKUP}|{_LATEX}){{1,4}}+$", re.IGNORECASE)
_MARKUP_AFTER = lazy_pattern(rf"{_LINK}(?:\s?-->|{_MARKUP}|\}}\$?|\$){{0,4}}+", re.IGNORECASE)
_MARKUP_LOOKED_AT = 96
_MARKUP_ENDS = ("*", "_", "`", "~", "=", "\\", ">", "> ", "--", "- ", "{", "$")
_LONGEST_COLON = len(":** **")
_LABEL_BEFORE = lazy_pattern(rf"(?<!\w){_MARKUP}{{0,2}}{_LABEL}$", re.IGNORECASE)

# The name alone, set off by a full stop, a dash or mark-up: "The response must rhyme. **Hard Rule**", "Hard Rule: The".
_BARE_AT_END = lazy_pattern(
    rf"(?P<joint>[-–—:：|]\s*)?(?P<markup>{_MARKUP}{{0,2}})(?P<label>{_LABEL}?){NAME}{_MARKUP}{{0,2}}[.。|\s]*$",
    re.IGNORECASE,
)
_BARE_AT_START = lazy_pattern(
    rf"(?P<markup>{_MARKUP}{{0,2}}){NAME}(?:{_MARKUP}{{1,2}}+\s*(?:[:：|–—-]\s*)?|\s*[:：|–—-]{_MARKUP}{{0,2}}+\s*)(?=\S)",
    re.IGNORECASE,
)
_BARE_INSIDE = lazy_pattern(
    rf"[-–—|→]{{1,2}}\s*{_MARKUP}{{0,2}}(?=[HP硬原])(?i:{NAME}){_MARKUP}{{0,2}}"
    r"(?!\w|\s+(?!(?:[ivxlc]{1,5}|[a-z])[.)])[a-z])"
)
_BARE_LOOKED_AT = 48
_SHORTEST_BEFORE = 6  # "II. Principles" is a heading

# What may stand between a tag and the next item or the end of the line: breaks that were escaped or are HTML, dashes,
# bars, bullets, "and". At most so many that the next item is still next to the tag.
JOINT = (
    r"\s++|\\{1,2}[nrt]|</?[a-z][a-z0-9]{0,9}(?:\s[^<>]{0,40})?/?>|&(?:[a-z]{2,6}|\#\d{1,5});|(?:and|or|then)\b"
    r"|[^\w\s\\<&(（\[［【〔{｛\#]"
)
MOST_JOINTS = 24
_ONLY_JOINTS = lazy_pattern(rf"(?:{JOINT}){{0,{MOST_JOINTS}}}+", re.IGNORECASE)

_OPENING_QUOTE = lazy_pattern(r"""(?:^|[\s(（])["']$|[“‘«「『„]$""")
_CLOSING_QUOTES = "\"'”’»」』"
_LONGEST_TAG = 24
_UNCLOSED_BRACKET = lazy_pattern(r"[\[［【〔〖(（{｛<＜〈][^\]］】〕〗)）}｝>＞〉]*$")
_CUT_TAG = lazy_pattern(r"[*_`~\\\s]*[\[［【]+[*_\s]*(?P<begun>[^\[\]［］【】]*)$")
_WHOLE_NAMES = ("hard rule", "principle", "硬性规则", "原则")


class Tag(NamedTuple):
    """A tag in a line: where it stands with its mark-up, how it was written, whether it closes mark-up of the text."""

    start: int
    end: int
    kind: Kind
    written: str
    is_unbalanced: bool

    @property
    def is_exact(self) -> bool:
        """Whether it is written as the validators want it; a line may wrap inside."""
        return " ".join(self.written.split()) == self.kind.tag


def kind_of(match: re.Match[str]) -> Kind:
    """The kind whose name a pattern with `NAME` found."""
    return Kind.HARD_RULE if match["hard_rule"] else Kind.PRINCIPLE


def may_name_kind(text: str) -> bool:
    """Whether the name of a kind may be in a text, which is quick to tell of most lines."""
    lower = text.lower()
    return "rule" in lower or "principle" in lower or (not text.isascii() and _OTHER_NAME.search(text) is not None)


def find_tags(text: str, start: int) -> list[Tag]:
    """The tags of a line from `start`, the end of its mark, on. A tag in quotes is text that speaks about tags."""
    if not may_name_kind(text):
        return []
    tags: list[Tag] = []
    word = len(text) - len(text[start:].lstrip())
    for match in _TAG.finditer(text, start):
        tag = _with_markup(text, match, start)
        is_first = tag.start <= word
        if not is_first and _is_quoted(text, tag):
            continue
        if match["opening"][0] in _SQUARE or _is_clear(text, tag, is_first=is_first, has_mark=start > 0):
            tags.append(tag)
    bare = [match for match in _BARE_INSIDE.finditer(text, start) if ends_sentence(text, match.start())]
    tags += [Tag(*match.span(), kind_of(match), match.group(), False) for match in bare]
    return sorted(tags) if tags else _bare_tag(text, start)


def _with_markup(text: str, match: re.Match[str], floor: int) -> Tag:
    start, end = match.span()
    if text.endswith(_MARKUP_ENDS, floor, start) or text.find("\\", max(floor, start - _LONGEST_TAG), start) >= 0:
        before = _MARKUP_BEFORE.search(text[max(floor, start - _MARKUP_LOOKED_AT) : start])
        start -= len(before.group()) if before else 0
    if ":" in text[max(floor, start - _LONGEST_COLON) : start]:
        label = _LABEL_BEFORE.search(text[max(floor, start - _MARKUP_LOOKED_AT) : start])
        num_characters = len(label.group()) if label else 0
        start -= num_characters if _is_sentence_before(text, start - num_characters, floor) else 0
    after = _MARKUP_AFTER.match(text, end)
    end = after.end() if after else end
    return Tag(start, end, kind_of(match), text[start:end], (start < match.start()) != (end > match.end()))


def _is_sentence_before(text: str, end: int, floor: int) -> bool:
    return ends_sentence(text, end) or not text[max(floor, end - _MARKUP_LOOKED_AT) : end].strip()


def _is_quoted(text: str, tag: Tag) -> bool:
    if "`" in tag.written:
        # In backticks a tag is quoted inside a sentence, and set as code after one.
        return not ends_sentence(text, tag.start)
    if _OPENING_QUOTE.search(text[max(0, tag.start - 2) : tag.start]):
        return True
    after = text[tag.end : tag.end + 1]
    return after != "" and after in _CLOSING_QUOTES and not ends_sentence(text, tag.start)


def _is_clear(text: str, tag: Tag, *, is_first: bool, has_mark: bool) -> bool:
    """Whether a tag in brackets that are no square ones is where a tag belongs."""
    is_capital = not tag.written.lstrip("([{<*_`\\ ")[:1].islower()
    if is_first:
        return has_mark or is_capital or is_last(text, tag) or says_response(text, tag.start)
    return ends_sentence(text, tag.start) or (is_capital and is_last(text, tag))


def _bare_tag(text: str, start: int) -> list[Tag]:
    """The name of a kind without brackets at the start or the end of a line."""
    early = _BARE_AT_START.match(text, start)
    if early is not None and (start > 0 or opens_response(text, early.end())):
        return [Tag(start, early.end(), kind_of(early), early.group(), False)]
    tail = text[max(start, len(text) - _BARE_LOOKED_AT) :]
    is_name = tail.rstrip("*_`~.。| \t").lower().endswith(_NAME_ENDS)
    match = _BARE_AT_END.search(tail) if is_name else None
    if match is None:
        return []
    at = len(text) - len(tail) + match.start()
    is_labeled = match["label"] != "" and _is_sentence_before(text, at, start)
    is_set_off = match["joint"] or match["markup"] or ends_sentence(text, at)
    name = match["hard_rule"] or match["principle"]
    is_small = name[0].islower() or text[at - 1 : at].isalnum()
    if not is_labeled and (len(text[start:at].strip()) < _SHORTEST_BEFORE or not is_set_off or is_small):
        return []
    return [Tag(at, len(text.rstrip()), kind_of(match), match.group(), False)]


def is_last(text: str, tag: Tag) -> bool:
    """Whether nothing but punctuation follows the tag."""
    return _ONLY_JOINTS.fullmatch(text, tag.end) is not None


def is_bare(text: str, tag: Tag) -> bool:
    """Whether white space alone stands before the tag, and nothing after it."""
    return not text[tag.end :].strip() and (tag.start == 0 or text[tag.start - 1].isspace())


def skip_tag(text: str, start: int) -> int:
    """The end of a tag that stands at a position, with the punctuation after it; the position where none does."""
    match = _EARLY_TAG.match(text, start)
    return match.end() if match else start


def says_response(text: str, start: int = 0) -> bool:
    """Whether the text at a position opens as every criterion should, after a tag if one stands there."""
    return opens_response(text, skip_tag(text, start))


def is_tag_split(before: str, after: str) -> bool:
    """Whether a tag starts at the end of one line and ends at the start of the next."""
    tail = before[-_LONGEST_TAG:].rstrip() + " "
    match = _TAG.search(tail + after.lstrip()[:_LONGEST_TAG])
    return match is not None and match.start() < len(tail) < match.end()


def has_open_bracket(text: str) -> bool:
    """Whether the line ends inside what may be a tag."""
    return _UNCLOSED_BRACKET.search(text[-_LONGEST_TAG:]) is not None


def without_cut_tag(text: str) -> str:
    """The text without the start of a tag at its end."""
    match = _CUT_TAG.search(text, max(0, len(text) - _LONGEST_TAG))
    if match is None or not any(name.startswith(match["begun"].lower()) for name in _WHOLE_NAMES):
        return text
    return text[: match.start()].rstrip()
