"""Items that ended become criteria; what is wrong with them is reported, and what is in none of them."""

from __future__ import annotations

import re

from rubricrm.rubric.criterion import Criterion, Kind, Span
from rubricrm.rubric.item import Fragment, OpenItem
from rubricrm.rubric.lazy_pattern import lazy_pattern
from rubricrm.rubric.phrase import ends_with_unknown_tag, opens_as_response
from rubricrm.rubric.report import QUOTED_CHARACTERS, Report, quote
from rubricrm.rubric.tag import Tag, without_cut_tag

# Mark-up that starts in the mark of an item, or ends in its tag, and has its other end in the text.
_MARKUP_AT_START = lazy_pattern(r"(?P<markup>[*_~`=]{1,3})|<(?P<name>[a-z]{1,6})(?:\s[^<>]{0,60})?>", re.IGNORECASE)
_MARKUP_AT_END = lazy_pattern(r"(?P<markup>[*_~`=]{1,3})$|</(?P<name>[a-z]{1,6})>$", re.IGNORECASE)
_ALL_MARKED_UP = lazy_pattern(r"(?P<markup>[*_]{1,3})(?P<text>[^*_]+)(?P=markup)")


class Criteria:
    """The criteria of a text in order.

    Attributes:
        found: The criteria so far.
        numbers: Every number so far.
        last_number: The number of the last item that had one.
        last_head: The first line of the last criterion.
    """

    def __init__(self, report: Report) -> None:
        self.found: list[Criterion] = []
        self.numbers: set[int] = set()
        self.last_number = 0
        self.last_head: Fragment | None = None
        self._report = report
        self._has_unended = False

    def close(self, item: OpenItem, tag: Tag) -> None:
        """Add an item whose tag ends its last line."""
        last, index = item.parts[-1], len(item.parts) - 1
        self._report_tag(last, tag, is_exact=tag.is_exact and last.is_set_off(tag), is_only=item.num_tags == 1)
        first = tag
        for earlier in reversed(last.tags[:-1]):
            if last.text[earlier.end : first.start].strip():
                break
            first = earlier  # a tag written twice
        texts = [*(item.text_of(earlier) for earlier in range(index)), item.text_before(index, first)]
        self._add(item, texts, tag.kind, last.end_offset(tag.end), is_unbalanced=tag.is_unbalanced)

    def end(self, item: OpenItem, heading: Kind | None, *, at_end: bool = False, truncated: bool = False) -> None:
        """Add an item that no tag closed, or report why it is no criterion.

        Args:
            item: The item.
            heading: The kind that the heading above it names.
            at_end: The text ends with it.
            truncated: The text was cut there.
        """
        found = item.first_tag
        if item.is_doubtful and (found is None or (item.head.mark.is_none and not item.head.starts_with_tag)):
            for part in item.parts:
                self.set_aside(part)
        elif found is None:
            self._end_untagged(item, item.head.mark.kind or heading, at_end=at_end, truncated=truncated)
        elif item.awaits_description:
            self.close(item, item.parts[-1].tags[-1])
        elif item.has_words:
            self._end_early_tagged(item, *found)
        else:
            self._end_empty(item)

    def set_aside(self, fragment: Fragment) -> None:
        """Report text that is in no criterion."""
        if not self.found:
            code = "preamble"
        elif not fragment.mark.is_none:
            code = "nested_list"
        else:
            code = "trailing_text"
        self._report.add(code, fragment.line, f"in no criterion: {quote(fragment.text)}")

    def _end_early_tagged(self, item: OpenItem, index: int, tag: Tag) -> None:
        part, texts = item.parts[index], item.texts()
        before, after = item.text_before(index, tag), item.text_after(index, tag)
        self._report_tag(part, tag, is_exact=False, is_only=item.num_tags == 1)
        if not item.is_complete_before(index, tag):
            joint = "" if after.startswith((".", ",", ";", ":")) else " "
            texts[index] = f"{before}{joint}{after}".strip()
            end = item.parts[-1].end_offset(len(item.parts[-1].text))
            self._add(item, texts, tag.kind, end, is_unbalanced=tag.is_unbalanced)
            return
        # The sentence was complete: what follows its tag is a remark.
        self._add(item, [*texts[:index], before], tag.kind, part.end_offset(tag.end), is_unbalanced=tag.is_unbalanced)
        if after:
            self._report.add("trailing_text", part.line, f"in no criterion: {quote(after)}")
        for later in item.parts[index + 1 :]:
            self.set_aside(later)

    def _end_untagged(self, item: OpenItem, kind: Kind | None, *, at_end: bool, truncated: bool) -> None:
        head, last, texts = item.head, item.parts[-1], item.texts()
        is_ended = item.is_ended or ends_with_unknown_tag(last.text) or self._has_unended
        if at_end and (truncated or not is_ended or not item.has_words):
            texts[-1] = without_cut_tag(texts[-1])
            self._report.add("truncated", head.line, f"the last item ends at {quote(last.text[-QUOTED_CHARACTERS:])}")
        elif item.has_words and kind is None:
            self._report.add("missing_tag", head.line, f"expected [Hard Rule] or [Principle] after {quote(head.text)}")
        elif item.has_words:
            self._report.add("tag_style", head.line, f"kind taken from its number or a heading: {quote(head.text)}")
        if item.has_words and any(texts):
            self._has_unended = self._has_unended or not item.is_ended
            self._add(item, texts, kind, last.end_offset(len(last.text)))
        else:
            self._end_empty(item)

    def _end_empty(self, item: OpenItem) -> None:
        self._report_number(item.head)
        for part in item.parts:
            self._report.add("empty_item", part.line, f"an item without text: {quote(part.text)}")

    def _add(
        self, item: OpenItem, texts: list[str], kind: Kind | None, end: int, *, is_unbalanced: bool = False
    ) -> None:
        head = item.head
        if item.is_described and any(texts[1:]):
            self._report.add("heading", head.line, f"the title {quote(texts[0])} is in no text")
            texts = texts[1:]
        text = " ".join(filter(None, texts))
        if is_unbalanced or head.mark.opens_markup:
            text = _without_open_markup(text)
        self._report_number(head)
        if not text:
            self._report.add("empty_item", head.line, f"an item without text: {quote(head.text)}")
            return
        if not opens_as_response(text):
            self._report.add("not_the_response", head.line, f'expected "The response ...", got {quote(text)}')
        marked_up = _ALL_MARKED_UP.fullmatch(text)
        if marked_up is not None and opens_as_response(marked_up["text"]):
            text = marked_up["text"]
        self.last_head = head
        place = head.place
        self.found.append(Criterion(head.mark.number, text, kind, Span(place.offset, end, place.line, place.column)))

    def _report_tag(self, fragment: Fragment, tag: Tag, *, is_exact: bool, is_only: bool) -> None:
        if not is_exact:
            self._report.add("tag_style", fragment.line, f"expected {tag.kind.tag} at the end: {quote(fragment.text)}")
        elif not is_only:
            self._report.add("tag_style", fragment.line, f"another tag is in the text: {quote(fragment.text)}")

    def _report_number(self, head: Fragment) -> None:
        mark = head.mark
        if not mark.is_exact:
            self._report.add(
                "numbering_style", head.line, f"expected `1. ` or its like at the start: {quote(head.text)}"
            )
        if mark.number is None:
            return
        if mark.number in self.numbers:
            self._report.add("numbering_duplicate", head.line, f"{mark.number} has been used: {quote(head.text)}")
        elif mark.number != self.last_number + 1:
            self._report.add("numbering_gap", head.line, f"got {mark.number}, expected {self.last_number + 1}")
        self.numbers.add(mark.number)
        self.last_number = mark.number


def _without_open_markup(text: str) -> str:
    """The text without mark-up at its start that nothing closes, or at its end that nothing opens."""
    for pattern in (_MARKUP_AT_START, _MARKUP_AT_END):
        match = pattern.match(text) if pattern is _MARKUP_AT_START else pattern.search(text, max(0, len(text) - 12))
        if match is None:
            continue
        rest = text[: match.start()] + text[match.end() :]
        other = match["markup"] or f"{'</' if pattern is _MARKUP_AT_START else '<'}{match['name']}"
        if other not in rest:
            text = rest.strip()
    return text
