"""What a line is to the parser, and an item while it is open."""

from __future__ import annotations

from dataclasses import dataclass

from rubricrm.rubric.marks import BLANK, Mark, Tag, ends_sentence, is_last, says_response


@dataclass(slots=True)
class Fragment:
    """A line, or the part of a joined line that may be one item. Tags and mark are offsets into its text."""

    text: str
    start: int
    line: int
    column: int
    indent: int
    mark: Mark
    tags: list[Tag]

    @property
    def end(self) -> int:
        """Offset behind the fragment in the whole text."""
        return self.start + len(self.text)

    @property
    def says_response(self) -> bool:
        """Whether "The response" opens it, behind its mark and a tag."""
        return says_response(self.text, self.mark.end)

    @property
    def closing_tag(self) -> Tag | None:
        """The tag at its end."""
        return self.tags[-1] if self.tags and is_last(self.text, self.tags[-1]) else None

    @property
    def starts_with_tag(self) -> bool:
        """Whether a tag opens it, behind its mark."""
        return bool(self.tags) and not self.text[self.mark.end : self.tags[0].start].strip(BLANK)

    @property
    def lone_tag(self) -> Tag | None:
        """Its tag, where it holds nothing else."""
        return self.closing_tag if self.mark.is_none and len(self.tags) == 1 and self.starts_with_tag else None

    @property
    def has_words(self) -> bool:
        """Whether it holds more than a mark and tags."""
        start = self.mark.end
        for tag in self.tags:
            if self.text[start : tag.start].strip(BLANK):
                return True
            start = tag.end
        return bool(self.text[start:].strip(BLANK + ".,;:*_。．"))


class OpenItem:
    """An item whose tag has not ended a line yet. A doubtful one is a criterion only if it gets a tag."""

    def __init__(self, head: Fragment, *, is_doubtful: bool) -> None:
        self.head = head
        self.is_doubtful = is_doubtful
        self.parts = [head]
        self.has_words = head.has_words
        self.nested_number = 0  # of the list inside it

    def add(self, part: Fragment) -> None:
        """Take a further line."""
        self.parts.append(part)
        self.has_words = self.has_words or part.has_words
        if part.mark.number is not None:
            self.nested_number = part.mark.number

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

    def text_of(self, index: int, start: int | None = None, end: int | None = None) -> str:
        """The text of a part, or of a section of it, without the number of the item."""
        begin = self.head.mark.end if index == 0 else 0
        return self.parts[index].text[begin if start is None else start : end].strip(BLANK)

    def texts(self) -> list[str]:
        """The texts of all parts."""
        return [self.text_of(index) for index in range(len(self.parts))]
