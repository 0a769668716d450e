"""Lines of text become criteria and issues, one line at a time.

The parser never looks ahead: what a line means follows from it and the lines before, so a stream gives the same
criteria as the whole text. One thing alone takes back what was read: a closing tag of a thought that nothing opened.

A line that `form` reads, and that has the next number, is an item, whatever its words. Any other goes through the rooms
of this folder in this order: `visible` takes away what nobody sees, `answer` finds the
answer in it, `wrapper` takes off fences and tags around it, `joint` cuts it where several items stand on it, and
`item_reader` makes criteria of the fragments.
"""

from __future__ import annotations

from rubricrm.rubric.answer import AnswerReader
from rubricrm.rubric.criterion import Criterion, Issue
from rubricrm.rubric.form import read_line
from rubricrm.rubric.item import Fragment
from rubricrm.rubric.item_reader import ItemReader
from rubricrm.rubric.joint import may_be_joined, split_items
from rubricrm.rubric.lazy_pattern import lazy_pattern
from rubricrm.rubric.mark import Mark, Style
from rubricrm.rubric.repetition import find_repetition
from rubricrm.rubric.report import Report, quote
from rubricrm.rubric.tag import Tag, has_open_bracket, is_tag_split
from rubricrm.rubric.visible import VisibleLine
from rubricrm.rubric.wrapper import is_wrapper_alone, strip_wrappers, wrapper_code

_BREAKS = "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"
# What stands for a byte that is not of the text's encoding: the replacement character, or a lone surrogate.
_UNDECODABLE = lazy_pattern("[\ufffd\ud800-\udfff]")


class RubricParser:
    """Reads lines in order; `issues` are complete and sorted after `finish`. The cost is linear.

    Attributes:
        issues: What is not in the canonical form.
        num_restarts: How often a thought's end took back all criteria so far.
    """

    def __init__(self, *, starts_in_thought: bool = False) -> None:
        """Start.

        Args:
            starts_in_thought: The prompt ended with the opening tag of a thought.
        """
        self.issues: list[Issue] = []
        self.num_restarts = 0
        self._answer = AnswerReader(starts_in_thought=starts_in_thought)
        self._report = Report()
        self._items = ItemReader(self._report)
        self._undecodable = Report()
        self._held: list[VisibleLine] = []  # physical lines that end inside a tag
        self._num_lines = 0
        self._offset = 0
        self._is_after_blank = False

    @property
    def criteria(self) -> list[Criterion]:
        """The criteria so far; it grows as items close."""
        return self._items.criteria

    def read_line(self, raw: str) -> None:
        """Read one physical line, with its line break."""
        self._num_lines += 1
        line = VisibleLine(_without_break(raw), self._offset, self._num_lines)
        self._offset += len(raw)
        if not raw.isascii() and _UNDECODABLE.search(raw):
            self._undecodable.add("undecodable", self._num_lines, f"bytes of no character in {quote(line.text)}")
        if self._held and not is_tag_split(self._held[-1].text, line.text):
            self._read_held()
        if not line.text.strip():
            self._is_after_blank = True
            return
        self._held.append(line)
        if not has_open_bracket(line.text):
            self._read_held()

    def finish(self, *, truncated: bool) -> None:
        """Close what is open."""
        self._read_held()
        self._report.issues += self._answer.finish()
        open_line = self._items.open_line
        self._items.finish(truncated=truncated)
        if truncated and not self._report.has("truncated"):
            line = open_line or max(1, self._num_lines)
            self._report.add(
                "truncated", line, "the text was cut here: this item is unfinished, or more may be missing"
            )
        if not self.criteria:
            expected = "expected lines like `1. The response ... [Hard Rule]`"
            self._report.add("no_criteria", 1, f"found no criterion, {expected}")
        repetition = find_repetition(self.criteria)
        self._report.issues += self._undecodable.issues + ([repetition] if repetition else [])
        self.issues = self._report.in_order()

    def _read_held(self) -> None:
        lines, self._held = self._held, []
        if lines:
            self._read_line(lines[0] if len(lines) == 1 else VisibleLine.joined(lines))
            self._is_after_blank = False

    def _read_line(self, line: VisibleLine) -> None:
        if not self._read_in_form(line):
            self._read_other(line)

    def _read_in_form(self, line: VisibleLine) -> bool:
        """Read the next item where the line is one in the form: then no word of it means anything else."""
        item = read_line(line.text.rstrip())
        if item is None or item.number != self._items.next_number or not self._answer.is_open(line.number):
            return False
        mark = Mark(Style.DIGITS, item.number, item.start, is_exact=True)
        tag = Tag(item.tag_start, item.tag_end, item.kind, item.kind.tag, is_unbalanced=False)
        fragment = Fragment(line, 0, line.text[: item.tag_end], 0, mark, [tag])
        self._items.read(fragment, is_after_blank=self._is_after_blank)
        return True

    def _read_other(self, line: VisibleLine) -> None:
        if self._answer.is_all_answer(line.text, line.number):
            self._read_part(line, 0, len(line.text))
            return
        is_inside, has_criteria = self._items.is_inside, bool(self.criteria)
        answer = self._answer.read(line.text, line.number, is_inside=is_inside, has_criteria=has_criteria)
        if answer.takes_back:
            self.num_restarts += 1
            self._report = Report()
            self._items = ItemReader(self._report)
        self._report.issues += answer.issues
        for start, end in answer.parts:
            self._read_part(line, start, end)

    def _read_part(self, line: VisibleLine, start: int, end: int) -> None:
        text = line.text
        part = text[start:end].rstrip()
        end, begin = start + len(part), start + len(part) - len(part.lstrip())
        indent = len(text[:begin].expandtabs(4)) if start == 0 < begin else 0
        begin, end, wrappers = strip_wrappers(text, begin, end)
        for wrapper in wrappers:
            self._report.add(wrapper_code(wrapper), line.number, f"left out {quote(wrapper)}")
        if begin >= end:
            return
        pieces = split_items(text[begin:end], self._items.number_so_far)
        for piece in pieces:
            if not piece.text:
                continue
            if not piece.tags and is_wrapper_alone(piece.text):
                self._report.add("wrapper", line.number, f"left out {quote(piece.text)}")
                continue
            fragment = Fragment(line, begin + piece.start, piece.text, indent, piece.mark, piece.tags)
            self._items.read(fragment, is_after_blank=self._is_after_blank)
            indent = 0
        if len(pieces) > 1:
            self._report.add("joined_line", line.number, f"{len(pieces)} items on one line: {quote(text[begin:end])}")
        elif may_be_joined(pieces[0]):
            self._report.add("joined_line", line.number, f"read as one item: {quote(text[begin:end])}")


def _without_break(line: str) -> str:
    """The line with spaces for its break, so that offsets stay."""
    body = line.rstrip(_BREAKS)
    return body + " " * (len(line) - len(body))
