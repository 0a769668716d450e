"""Fragments of lines become criteria, one after another.

An item is open from its number until its tag ends a line, or until the next item starts. What a line means follows from
it and the lines before it.

What a text leaves open is read like this:

- A number inside an open item starts the next item if it is the next one and the item is complete or "The response"
  follows; another number, or one indented by two columns or more, belongs to a list inside the item.
- After a tag, a number needs two of three to start an item at once: to be the next, to stand at the items' indent, to
  be followed by "The response". With less it needs a tag of its own, else it is a list that belongs to no item.
- A line without number or bullet is an item if it has a tag and starts with "The response" or, where no item has a
  number, a full stop before its tag; with the lines before it where these leave their sentence open. Without a tag it
  is preamble or trailing text.
- A few words with a tag that are no sentence may be a title: what follows and has no mark describes it, and is the
  criterion. A few words without one, above items of another style, are a heading.
- A tag in quotes is text. Of several tags the one at the end of the item counts, else the first.
- A heading that names a kind gives it to the items below that have no tag.
"""

from __future__ import annotations

from rubricrm.rubric.criteria import Criteria
from rubricrm.rubric.criterion import Criterion, Kind
from rubricrm.rubric.heading import is_markdown_heading, is_ruled, is_section, read_heading
from rubricrm.rubric.item import Fragment, OpenItem
from rubricrm.rubric.mark import Style
from rubricrm.rubric.phrase import ends_sentence
from rubricrm.rubric.report import Report, quote

_FEWEST_WORDS_OF_HALF = 4


class ItemReader:
    """Reads fragments in order; `criteria` grows as items close. The cost is linear in the length of the text."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._list = Criteria(report)
        self._item: OpenItem | None = None
        self._heading: Kind | None = None

    @property
    def criteria(self) -> list[Criterion]:
        """The criteria so far."""
        return self._list.found

    @property
    def number_so_far(self) -> int:
        """The number of the item that is open, else of the last one."""
        if self._item is not None and self._item.head.mark.number is not None:
            return self._item.head.mark.number
        return self._list.last_number

    @property
    def next_number(self) -> int | None:
        """The number of the item that may start now; None where an item is open."""
        return self._list.last_number + 1 if self._item is None else None

    @property
    def is_inside(self) -> bool:
        """Whether a sentence of an item is not ended yet."""
        return self._item is not None and not self._item.is_ended

    @property
    def open_line(self) -> int | None:
        """The line of the item that is open."""
        return None if self._item is None else self._item.head.line

    def read(self, fragment: Fragment, *, is_after_blank: bool) -> None:
        """Read a line, or a part of one."""
        item = self._item
        if not fragment.tags and is_ruled(fragment.text):
            self._list.set_aside(fragment)
            return
        if item is None:
            self._read_outside(fragment)
        elif self._is_section_above(item, fragment):
            self._set_aside_as_heading(item)
            self._read_outside(fragment)
        elif self._ends(item, fragment, is_after_blank=is_after_blank):
            self._end_item()
            self._read_outside(fragment, after=item)
        else:
            self._continue_item(item, fragment)
        self._close_at_tag(fragment)

    def finish(self, *, truncated: bool) -> None:
        """Close what is open."""
        item, self._item = self._item, None
        if item is not None:
            self._list.end(item, self._heading, at_end=True, truncated=truncated)

    # ---- what a fragment is ----

    def _read_outside(self, fragment: Fragment, after: OpenItem | None = None) -> None:
        if self._read_heading(fragment):
            return
        if self._can_be_item(fragment):
            is_doubtful = self._is_doubtful(fragment, after) and not fragment.is_tagged_title
            self._item = OpenItem(fragment, is_doubtful=is_doubtful)
        elif self._can_be_half(fragment):
            self._item = OpenItem(fragment, is_doubtful=True, is_half=True)
        else:
            self._list.set_aside(fragment)

    def _read_heading(self, fragment: Fragment) -> bool:
        lone_tag = fragment.lone_tag
        heading = None if fragment.tags else read_heading(fragment.text, fragment.mark)
        if lone_tag is None and heading is None:
            if is_markdown_heading(fragment.text) and fragment.mark.is_none:
                self._heading = None
            return False
        self._heading = lone_tag.kind if lone_tag else heading.kind if heading else None
        self._report.add("heading", fragment.line, f"{quote(fragment.text)} names the kind of the items below")
        return True

    def _can_be_item(self, fragment: Fragment) -> bool:
        if not fragment.mark.is_none:
            return True
        if fragment.says_response:
            return not fragment.text.endswith((":", "："))
        # Without number or "The response", only a tag after a full stop makes an item, and only where no item has
        # a number: "Each line ends with [Hard Rule] or [Principle]" is a remark.
        tag = fragment.closing_tag
        if tag is None or self._list.numbers:
            return False
        return ends_sentence(fragment.text, tag.start) or fragment.is_tagged_title

    def _can_be_half(self, fragment: Fragment) -> bool:
        """Whether a line without known mark may be the first half of an item that wraps."""
        if self._list.numbers or fragment.tags or fragment.text.endswith((":", "：")):
            return False
        is_long = len(fragment.text.split(None, _FEWEST_WORDS_OF_HALF)) >= _FEWEST_WORDS_OF_HALF
        return (
            (is_long or not fragment.text.isascii())
            and not is_section(fragment.text)
            and not ends_sentence(fragment.text)
        )

    def _is_doubtful(self, fragment: Fragment, after: OpenItem | None) -> bool:
        mark, says = fragment.mark, fragment.says_response
        last = self._list.last_head
        is_deep = last is not None and fragment.indent > last.indent + 1
        if mark.style is Style.DECIMAL:
            return not says and last is not None and last.mark.style is not Style.DECIMAL
        if mark.number is None:
            return not mark.is_bullet or is_deep or not (says or (last is not None and last.mark.is_bullet))
        if after is not None and after.is_doubtful and mark.number == (after.head.mark.number or -1) + 1:
            return not says
        # "The response", the next number, the place of an item: two of the three make one.
        return says + (mark.number == self._list.last_number + 1) + (not is_deep) < 2

    def _is_section_above(self, item: OpenItem, fragment: Fragment) -> bool:
        """Whether the open item is a heading, and the fragment the first item below it."""
        head, mark = item.head, fragment.mark
        if mark.is_none or len(item.parts) > 1 or head.tags or not item.title:
            return False
        is_same = mark.style is head.mark.style and is_markdown_heading(head.text) == is_markdown_heading(fragment.text)
        if is_same and (item.is_doubtful or mark.number == (head.mark.number or 0) + 1):
            return False
        return fragment.closing_tag is not None or fragment.opens_sentence

    def _ends(self, item: OpenItem, fragment: Fragment, *, is_after_blank: bool) -> bool:
        """Whether a fragment is no part of the open item."""
        if item.awaits_description:
            return not item.can_be_described_by(fragment)
        if item.is_half and not item.leaves_open(fragment, is_after_blank=is_after_blank):
            return True
        return self._is_new_item(item, fragment) or self._is_no_part(item, fragment, is_after_blank=is_after_blank)

    def _is_new_item(self, item: OpenItem, fragment: Fragment) -> bool:
        """Whether a fragment starts an item of its own while one is open."""
        mark, says, head = fragment.mark, fragment.says_response, item.head
        is_deep = fragment.indent > head.indent + 1
        if mark.style is Style.DECIMAL:
            return head.mark.style is Style.DECIMAL or (says and not is_deep)
        if mark.number is not None:
            if mark.style is not head.mark.style and not (says or head.mark.is_none or item.is_doubtful):
                return False
            return self._is_new_number(item, mark.number, says=says, is_deep=is_deep)
        if mark.is_bullet:
            is_part = item.is_described and not fragment.tags
            return not is_deep and not is_part and (head.mark.is_bullet or (says and item.is_ended))
        if says and fragment.tags and item.is_ended and item.num_tags:
            return True
        return head.mark.is_none and says and (item.is_ended or fragment.starts_with_tag)

    def _is_new_number(self, item: OpenItem, number: int, *, says: bool, is_deep: bool) -> bool:
        head = item.head.mark
        if head.is_none:
            return not is_deep
        previous = self._list.last_number if head.number is None else head.number
        is_next = number == previous + 1 or (item.is_doubtful and number == self._list.last_number + 1)
        if is_deep:
            return says and is_next and not item.nested_number
        if item.nested_number and number == item.nested_number + 1 and not says:
            return False
        if is_next:
            return says or item.is_ended or not item.head.says_response
        return item.is_ended and (says or number > previous)

    def _is_no_part(self, item: OpenItem, fragment: Fragment, *, is_after_blank: bool) -> bool:
        """Whether a fragment ends an open item: a heading, or a remark after a blank line."""
        heading = None if fragment.tags else read_heading(fragment.text, fragment.mark)
        if heading is not None and heading.is_adorned:
            return item.is_ended or not fragment.text[fragment.mark.end :].lstrip("#*_ ")[:1].islower()
        if is_markdown_heading(fragment.text) and item.is_ended and not fragment.says_response:
            return True
        if not fragment.mark.is_none:
            return False
        if fragment.lone_tag is not None:
            return self._heading not in (None, fragment.lone_tag.kind)
        if heading is not None and not fragment.text[:1].islower():
            return item.is_ended or self._heading not in (None, heading.kind)
        if is_markdown_heading(fragment.text) or (item.is_ended and not fragment.tags and is_section(fragment.text)):
            return True
        return item.is_ended and ((is_after_blank and not fragment.tags) or fragment.is_tagged_title)

    # ---- what becomes of it ----

    def _continue_item(self, item: OpenItem, fragment: Fragment) -> None:
        if not fragment.mark.is_none and not item.is_doubtful:
            self._report.add("nested_list", fragment.line, f"read as text of the item: {quote(fragment.text)}")
        item.add(fragment)

    def _set_aside_as_heading(self, item: OpenItem) -> None:
        self._item = None
        self._report.add("heading", item.head.line, f"{quote(item.head.text)} is above items of another style")

    def _close_at_tag(self, fragment: Fragment) -> None:
        """End the open item where the fragment brought its tag; not at a tag before any word, or after a title."""
        item = self._item
        if item is None or not fragment.tags or not item.has_words:
            return
        tag = fragment.closing_tag
        if tag is not None and item.is_only_title:
            item.awaits_description = True
        elif tag is not None and (not item.is_half or item.is_complete_before(len(item.parts) - 1, tag)):
            self._item = None
            self._list.close(item, tag)
        elif item.is_half or item.is_complete_before(len(item.parts) - 1, fragment.tags[0]):
            self._end_item()

    def _end_item(self) -> None:
        """End an item that no tag closed."""
        item, self._item = self._item, None
        if item is not None:
            self._list.end(item, self._heading)
