"""What a line is to the parser, and an item while it is open."""

from __future__ import annotations

from dataclasses import dataclass, field

from rubricrm.rubric.heading import is_remark, is_section, is_set_title, is_title, is_title_of
from rubricrm.rubric.lazy_pattern import lazy_pattern
from rubricrm.rubric.mark import Mark
from rubricrm.rubric.phrase import ESCAPED_BREAK, ends_sentence, opens_response
from rubricrm.rubric.tag import Tag, is_bare, is_last, says_response
from rubricrm.rubric.visible import Place, VisibleLine

_BREAKS_AT_START = lazy_pattern(rf"(?:\s++|{ESCAPED_BREAK})*+")
_BREAKS_AT_END = lazy_pattern(rf"(?:\s*+{ESCAPED_BREAK})++\s*$")
# A dash between sentence and tag, a colon between tag and sentence.
_SEPARATOR_BEFORE_TAG = lazy_pattern(r"(?:(?:^|\s|(?<=[.!?。！？]))[|–—:：→=>~•·-]{1,3}\s*)+$")
_SEPARATOR_AFTER_TAG = ":：.,;|–—-。，/ \t"
_LONGEST_SEPARATOR = 24


@dataclass(slots=True)
class Fragment:
    """A line, or the part of a line that may be one item. Tags and mark are offsets into its text."""

    source: VisibleLine
    begin: int
    text: str
    indent: int
    mark: Mark
    tags: list[Tag]
    says_response: bool = field(init=False)
    """Whether "The response" opens it, after its mark and a tag."""

    def __post_init__(self) -> None:
        is_after_tag = self.starts_with_tag and opens_response(self.text, self.tags[0].end)
        self.says_response = is_after_tag or says_response(self.text, self.mark.end)

    @property
    def place(self) -> Place:
        """Where it starts in the whole text."""
        return self.source.place(self.begin)

    @property
    def line(self) -> int:
        """The number of its line."""
        return self.place.line

    def end_offset(self, end: int) -> int:
        """The offset in the whole text after the character before an index."""
        return self.source.end_offset(self.begin + end)

    @property
    def opens_sentence(self) -> bool:
        """Whether "The response" with a capital letter opens it."""
        start = max(self.mark.end, self.tags[0].end if self.starts_with_tag else 0)
        return self.says_response and "The" in self.text[start : start + 8]

    @property
    def closing_tag(self) -> Tag | None:
        """The tag at its end."""
        return self.tags[-1] if self.tags and is_last(self.text, self.tags[-1]) else None

    @property
    def starts_with_tag(self) -> bool:
        """Whether a tag opens it, after its mark."""
        return bool(self.tags) and not self.text[self.mark.end : self.tags[0].start].strip()

    @property
    def lone_tag(self) -> Tag | None:
        """Its tag, where it holds nothing else."""
        return self.closing_tag if self.mark.is_none and len(self.tags) == 1 and self.starts_with_tag else None

    def is_set_off(self, tag: Tag) -> bool:
        """Whether white space alone stands around a tag at the end, and no dash before it."""
        start = self.end_before_separator(self.mark.end, tag)
        return is_bare(self.text, tag) and not self.text[start : tag.start].strip()

    @property
    def is_tagged_title(self) -> bool:
        """Whether it is a title without number, set as one, with its tag."""
        tag = self.closing_tag
        if tag is None or not self.mark.is_none or self.starts_with_tag:
            return False
        words = self.text[: tag.start]
        return is_set_title(words, self.text) and is_title(words, self.text)

    @property
    def has_words(self) -> bool:
        """Whether it holds more than a mark and tags."""
        start = self.mark.end
        for tag in self.tags:
            if self.text[start : tag.start].strip():
                return True
            start = tag.end
        return bool(self.text[start:].strip(" \t.,;:*_。．"))

    def shown(self, start: int, end: int) -> str:
        """What stands between two indexes."""
        return self.source.shown(self.begin + start, self.begin + end).strip()

    def start_after_breaks(self, start: int) -> int:
        """An index after escaped line breaks."""
        found = _BREAKS_AT_START.match(self.text, start)
        return found.end() if found else start

    def end_before_breaks(self, start: int, end: int) -> int:
        """An index before escaped line breaks."""
        found = _BREAKS_AT_END.search(self.text, max(start, end - _LONGEST_SEPARATOR), end)
        return found.start() if found else end

    def end_before_separator(self, start: int, tag: Tag) -> int:
        """Where the text before a tag ends, without a dash or an escaped line break between them."""
        end = self.end_before_breaks(start, tag.start)
        found = _SEPARATOR_BEFORE_TAG.search(self.text, max(start, end - _LONGEST_SEPARATOR), end)
        return found.start() if found else end


class OpenItem:
    """An item that is not closed yet.

    Attributes:
        head: Its first line.
        parts: All of its lines.
        is_doubtful: It is a criterion only if it gets a tag.
        is_half: Its first line has no mark that is known: with a tag in its next lines it is a sentence.
        awaits_description: Its first line is a title with a tag.
        is_described: Its first line is a title, and the next ones say what it means.
        nested_number: The last number of a list inside it.
    """

    def __init__(self, head: Fragment, *, is_doubtful: bool, is_half: bool = False) -> None:
        self.head = head
        self.parts = [head]
        self.is_doubtful = is_doubtful
        self.is_half = is_half
        self.awaits_description = False
        self.is_described = False
        self.has_words = head.has_words
        self.nested_number = 0

    def add(self, part: Fragment) -> None:
        """Take a further line."""
        if self.awaits_description:
            self.is_described, self.awaits_description = True, False
        elif len(self.parts) == 1 and part.lone_tag is None and (title := self.title):
            self.is_described = part.opens_sentence or is_title_of(title, self.head.text, part.text)
        self.parts.append(part)
        self.has_words = self.has_words or part.has_words
        if part.mark.number is not None:
            self.nested_number = part.mark.number

    @property
    def is_only_title(self) -> bool:
        """Whether it holds a title and perhaps a tag, and nothing else."""
        return all(part.lone_tag is not None for part in self.parts[1:2]) and len(self.parts) <= 2 and self.title != ""

    @property
    def is_ended(self) -> bool:
        """Whether its text so far ends with a full stop or its like."""
        return ends_sentence(self.parts[-1].text)

    @property
    def num_tags(self) -> int:
        """How many tags its text holds."""
        return sum(len(part.tags) for part in self.parts)

    @property
    def first_tag(self) -> tuple[int, Tag] | None:
        """The first tag in its text, with the index of the part that holds it."""
        return next(((index, part.tags[0]) for index, part in enumerate(self.parts) if part.tags), None)

    @property
    def title(self) -> str:
        """The title that its first line is; empty where it is none."""
        head = self.head
        start = head.tags[0].end if head.starts_with_tag else head.mark.end
        end = head.tags[0].start if head.tags and not head.starts_with_tag else len(head.text)
        words = head.text[start:end]
        is_known = not head.mark.is_none or is_set_title(words, head.text)
        return words if is_known and is_title(words, head.text) else ""

    def can_be_described_by(self, fragment: Fragment) -> bool:
        """Whether a fragment may say what the title means."""
        is_deep = fragment.indent > self.head.indent + 1
        is_set = is_set_title(self.title, self.head.text)
        if is_remark(fragment.text):
            return False
        if fragment.mark.is_bullet:
            return (is_deep or is_set) and not fragment.tags
        if not fragment.mark.is_none or is_section(fragment.text) or fragment.lone_tag is not None:
            return False
        return fragment.opens_sentence or is_deep or is_set

    def leaves_open(self, fragment: Fragment, *, is_after_blank: bool) -> bool:
        """Whether a fragment may go on with the sentence of a line without mark."""
        is_start = not fragment.mark.is_none or fragment.opens_sentence
        return not (is_after_blank or self.is_ended or is_start)

    def is_complete_before(self, index: int, tag: Tag) -> bool:
        """Whether the item's sentence ends before a tag in one of its parts."""
        before = self.text_before(index, tag)
        return ends_sentence(before) or (before == "" and index > 0 and ends_sentence(self.parts[index - 1].text))

    def text_of(self, index: int) -> str:
        """The text of a part, without the number of the item."""
        part, begin = self.parts[index], self._begin(index)
        end = len(part.text)
        return part.shown(begin, part.end_before_breaks(begin, end) if index == len(self.parts) - 1 else end)

    def text_before(self, index: int, tag: Tag) -> str:
        """The text of a part before a tag, without a dash between them, and without the same tag at its start."""
        part, begin = self.parts[index], self._begin(index)
        first = part.tags[0]
        if first.end < tag.start and first.kind is tag.kind and not part.text[begin : first.start].strip():
            begin = first.end
        return part.shown(begin, part.end_before_separator(begin, tag))

    def text_after(self, index: int, tag: Tag) -> str:
        """The text of a part after a tag; without the colon between them where nothing stands before the tag."""
        part = self.parts[index]
        after = part.shown(part.start_after_breaks(tag.end), part.end_before_breaks(tag.end, len(part.text)))
        return after if self.text_before(index, tag) else after.lstrip(_SEPARATOR_AFTER_TAG)

    def _begin(self, index: int) -> int:
        """Where the text of a part begins: in the first after the number, in a description after the bullet."""
        part = self.parts[index]
        is_marked = index == 0 or (self.is_described and part.mark.is_bullet)
        return part.start_after_breaks(part.mark.end) if is_marked else 0

    def texts(self) -> list[str]:
        """The texts of all parts."""
        return [self.text_of(index) for index in range(len(self.parts))]
