"""Lines of text become criteria and issues, one line at a time.

An item is open from its number until its tag ends a line, or until the next item starts. The parser never looks ahead:
what a line means follows from it and the lines before, so a stream gives the same criteria as the whole text.

What a text leaves open is read like this:

- A number inside an open item starts the next item if it is the next one and the item is complete or "The response"
  follows; another number, or one indented by two columns or more, belongs to a list inside the item.
- Behind a tag, a number needs two of three to start an item at once: to be the next, to stand at the items' indent, to
  be followed by "The response". With less it needs a tag of its own, else it is a list that belongs to no item.
- A line without number or bullet is an item if it has a tag and starts with "The response" or, where no item has a
  number, a full stop before its tag. Without a tag it is preamble or trailing text.
- A tag in quotes is text. Of several tags the one at the end of the item counts, else the first.
- A heading that names a kind gives it to the items below that have no tag.
- What <think> opens and nothing closes is no rubric: a model cut while it thinks has not answered.
"""

from __future__ import annotations

from bisect import bisect_right

from rubricrm.rubric.criterion import Criterion, Issue, Kind, Span
from rubricrm.rubric.item import Fragment, OpenItem
from rubricrm.rubric.marks import (
    BLANK,
    Tag,
    ends_sentence,
    find_tags,
    find_think_end,
    has_open_bracket,
    heading_kind,
    is_bare,
    is_markdown_heading,
    is_tag_split,
    item_starts,
    opens_as_response,
    read_mark,
    strip_wrappers,
    without_break,
    without_cut_tag,
)

_QUOTED_CHARACTERS = 48


class RubricParser:
    """Reads lines in order; `criteria` grows as items close, `issues` are complete and sorted after `finish`.

    The cost is linear in the length of the text.
    """

    def __init__(self) -> None:
        self.criteria: list[Criterion] = []
        self.issues: list[Issue] = []
        self._item: OpenItem | None = None
        self._held: list[str] = []  # physical lines that end inside a tag
        self._held_at = (0, 0)  # offset and number of the first of them
        self._num_lines = 0
        self._offset = 0
        self._numbers: set[int] = set()
        self._last_number = 0
        self._last_head: Fragment | None = None
        self._heading: Kind | None = None
        self._is_after_blank = False
        self._thought: list[str] | None = None
        self._thought_line = 0

    # ---- lines ----

    def read_line(self, line: str) -> None:
        """Read one physical line, with its line break."""
        self._num_lines += 1
        start, self._offset = self._offset, self._offset + len(line)
        if self._held and not is_tag_split(self._held[-1], line):
            self._read_held()
        if not line.strip(BLANK):
            self._is_after_blank = True
            return
        if not self._held:
            self._held_at = (start, self._num_lines)
        self._held.append(line)
        if not has_open_bracket(line):
            self._read_held()

    def finish(self, *, truncated: bool) -> None:
        """Close what is open."""
        self._read_held()
        if self._thought is not None:
            self._report_thought("no </think> follows: nothing in it is read as a rubric")
        open_line = None if self._item is None else self._item.head.line
        self._end_item(at_end=True, truncated=truncated)
        if truncated and not any(issue.code == "truncated" for issue in self.issues):
            line = open_line or max(1, self._num_lines)
            self._report("truncated", line, "the text was cut here: this item is unfinished, or more may be missing")
        if not self.criteria:
            self._report("no_criteria", 1, "found no criterion, expected lines like `1. The response ... [Hard Rule]`")
        self.issues.sort(key=lambda issue: (issue.line, issue.code))

    def _read_held(self) -> None:
        lines, self._held = self._held, []
        if not lines:
            return
        breaks = [0]
        for line in lines[:-1]:
            breaks.append(breaks[-1] + len(line))
        text = "".join(lines) if len(lines) == 1 else "".join(without_break(line) for line in lines)
        self._read_text(text, breaks)
        self._is_after_blank = False

    def _read_text(self, text: str, breaks: list[int]) -> None:
        start = self._skip_thought(text)
        end = len(text.rstrip(BLANK))
        start = min(end, len(text) - len(text[start:].lstrip(BLANK)))
        indent = 0 if text[:start].strip(BLANK) else len(text[:start].expandtabs(4))
        start, end, wrappers = strip_wrappers(text, start, end)
        for wrapper in wrappers:
            self._report(_wrapper_code(wrapper), self._held_at[1], f"left out {_quote(wrapper)}")
        if start >= end:
            return
        body = text[start:end]
        cuts = item_starts(body, self._number_so_far())
        for begin, stop in zip(cuts, [*cuts[1:], len(body)], strict=True):
            piece = body[begin:stop].rstrip(BLANK)
            self._read_fragment(self._fragment(piece, start + begin, indent, breaks))
            indent = 0
        if len(cuts) > 1:
            self._report("joined_line", self._held_at[1], f"{len(cuts)} items on one line: {_quote(body)}")

    def _fragment(self, piece: str, start: int, indent: int, breaks: list[int]) -> Fragment:
        row = bisect_right(breaks, start) - 1
        mark = read_mark(piece, self._number_so_far() + 1)
        offset, line = self._held_at
        return Fragment(piece, offset + start, line + row, start - breaks[row] + 1, indent, mark, find_tags(piece))

    def _number_so_far(self) -> int:
        if self._item is not None and self._item.head.mark.number is not None:
            return self._item.head.mark.number
        return self._last_number

    # ---- think blocks ----

    def _skip_thought(self, text: str) -> int:
        """Where the text behind a think block starts in this line; its end while the block goes on."""
        start = 0
        if self._thought is None:
            start = len(text) - len(text.lstrip(BLANK))
            # Inside an item, <think> is a word of its text.
            if self._item is not None or text[start : start + 7].lower() != "<think>":
                return 0
            self._thought, self._thought_line = [], self._held_at[1]
        end = find_think_end(text, start)
        if len(self._thought) < 3:
            self._thought.append(text[start:end][:_QUOTED_CHARACTERS])
        if end is None:
            return len(text)
        self._report_thought(f"it ends on line {self._held_at[1]}")
        return end

    def _report_thought(self, how_it_ends: str) -> None:
        thought, self._thought = self._thought or [], None
        self._report("think_block", self._thought_line, f"left out {_quote(' '.join(thought))}; {how_it_ends}")

    # ---- fragments ----

    def _read_fragment(self, fragment: Fragment) -> None:
        item = self._item
        if item is None:
            self._read_outside(fragment)
        elif self._is_new_item(item, fragment) or self._is_no_part(item, fragment):
            self._end_item()
            self._read_outside(fragment, behind=item)
        else:
            self._continue_item(item, fragment)
        tag = fragment.closing_tag
        if self._item is not None and tag is not None:
            self._close_item(self._item, tag)

    def _read_outside(self, fragment: Fragment, behind: OpenItem | None = None) -> None:
        if self._read_heading(fragment):
            return
        if not self._can_be_item(fragment):
            self._set_aside(fragment)
            return
        self._item = OpenItem(fragment, is_doubtful=self._is_doubtful(fragment, behind))

    def _read_heading(self, fragment: Fragment) -> bool:
        lone_tag = fragment.lone_tag
        kind = lone_tag.kind if lone_tag else heading_kind(fragment.text, needs_adornment=False)
        if kind is None:
            if is_markdown_heading(fragment.text) and fragment.mark.is_none:
                self._heading = None
            return False
        self._heading = kind
        self._report("heading", fragment.line, f"{_quote(fragment.text)} names the kind of the items below")
        return True

    def _can_be_item(self, fragment: Fragment) -> bool:
        if not fragment.mark.is_none:
            return True
        if fragment.says_response:
            return not fragment.text.endswith((":", "："))
        # Without number or "The response", only a tag behind a full stop makes an item, and only where no item has
        # a number: "Each line ends with [Hard Rule] or [Principle]" is a remark.
        tag = fragment.closing_tag
        return tag is not None and not self._numbers and ends_sentence(fragment.text, tag.start)

    def _is_doubtful(self, fragment: Fragment, behind: OpenItem | None) -> bool:
        mark, says = fragment.mark, fragment.says_response
        last = self._last_head
        is_deep = last is not None and fragment.indent > last.indent + 1
        if mark.number is None:
            return not mark.is_bullet or is_deep or not (says or (last is not None and last.mark.is_bullet))
        if behind is not None and behind.is_doubtful and mark.number == (behind.head.mark.number or -1) + 1:
            return not says
        # "The response", the next number, the place of an item: two of the three make one.
        return says + (mark.number == self._last_number + 1) + (not is_deep) < 2

    def _is_new_item(self, item: OpenItem, fragment: Fragment) -> bool:
        """Whether a fragment starts an item of its own while one is open."""
        mark, says = fragment.mark, fragment.says_response
        is_deep = fragment.indent > item.head.indent + 1
        if mark.number is not None:
            return self._is_new_number(item, mark.number, says=says, is_deep=is_deep)
        if mark.is_bullet:
            return not is_deep and (item.head.mark.is_bullet or (says and item.is_ended))
        return item.head.mark.is_none and says and (item.is_ended or fragment.starts_with_tag)

    def _is_new_number(self, item: OpenItem, number: int, *, says: bool, is_deep: bool) -> bool:
        head = item.head.mark
        if head.is_none:
            return not is_deep
        previous = self._last_number if head.number is None else head.number
        is_next = number == previous + 1 or (item.is_doubtful and number == self._last_number + 1)
        if is_deep:
            return says and is_next and not item.nested_number
        if item.nested_number and number == item.nested_number + 1 and not says:
            return False
        if is_next:
            return says or item.is_ended or not item.head.says_response
        return item.is_ended and (says or number > previous)

    def _is_no_part(self, item: OpenItem, fragment: Fragment) -> bool:
        """Whether a fragment without mark ends an open item: a heading, or a remark behind a blank line."""
        if not fragment.mark.is_none:
            return False
        lone_tag = fragment.lone_tag
        if lone_tag is not None:
            return self._heading not in (None, lone_tag.kind)
        if heading_kind(fragment.text, needs_adornment=True) or is_markdown_heading(fragment.text):
            return True
        return self._is_after_blank and item.is_ended and not fragment.tags

    def _continue_item(self, item: OpenItem, fragment: Fragment) -> None:
        if not fragment.mark.is_none and not item.is_doubtful:
            self._report("nested_list", fragment.line, f"read as text of the item: {_quote(fragment.text)}")
        item.add(fragment)

    def _set_aside(self, fragment: Fragment) -> None:
        """Report text that is in no criterion."""
        if not self.criteria:
            code = "preamble"
        elif not fragment.mark.is_none:
            code = "nested_list"
        else:
            code = "trailing_text"
        self._report(code, fragment.line, f"in no criterion: {_quote(fragment.text)}")

    # ---- the end of an item ----

    def _close_item(self, item: OpenItem, tag: Tag) -> None:
        """End an item at the tag that ends its line; a tag before any word is an early tag and ends nothing."""
        if not item.has_words:
            return
        self._item = None
        last = item.parts[-1]
        self._report_tag(last, tag, is_exact=tag.is_exact and is_bare(last.text, tag), is_only=item.num_tags == 1)
        start = tag.start
        for earlier in reversed(last.tags[:-1]):
            if last.text[earlier.end : start].strip(BLANK):
                break
            start = earlier.start  # a tag written twice
        texts = item.texts()
        texts[-1] = item.text_of(len(texts) - 1, end=start)
        self._add(item, texts, tag.kind, last.start + tag.end, tag.dangling_bold)

    def _end_item(self, *, at_end: bool = False, truncated: bool = False) -> None:
        """End an item that no tag closed."""
        item, self._item = self._item, None
        if item is None:
            return
        found = item.first_tag
        if item.is_doubtful and (found is None or (item.head.mark.is_none and not item.head.starts_with_tag)):
            for part in item.parts:
                self._set_aside(part)
        elif found is None:
            self._end_untagged(item, at_end=at_end, truncated=truncated)
        elif item.has_words:
            self._end_early_tagged(item, *found)
        else:
            self._end_empty(item)

    def _end_early_tagged(self, item: OpenItem, index: int, tag: Tag) -> None:
        part, texts = item.parts[index], item.texts()
        before, after = item.text_of(index, end=tag.start), item.text_of(index, start=tag.end)
        self._report_tag(part, tag, is_exact=False, is_only=item.num_tags == 1)
        if not ends_sentence(before):
            joint = "" if after.startswith((".", ",", ";", ":")) else " "
            texts[index] = f"{before}{joint}{after}".strip(BLANK)
            self._add(item, texts, tag.kind, item.parts[-1].end, tag.dangling_bold)
            return
        # The sentence was complete: what follows its tag is a remark.
        self._add(item, [*texts[:index], before], tag.kind, part.start + tag.end, tag.dangling_bold)
        if after:
            self._report("trailing_text", part.line, f"in no criterion: {_quote(after)}")
        for later in item.parts[index + 1 :]:
            self._set_aside(later)

    def _end_untagged(self, item: OpenItem, *, at_end: bool, truncated: bool) -> None:
        head, last, texts = item.head, item.parts[-1], item.texts()
        if at_end and (truncated or not item.is_ended or not item.has_words):
            texts[-1] = without_cut_tag(texts[-1])
            self._report("truncated", head.line, f"the last item ends at {_quote(last.text[-_QUOTED_CHARACTERS:])}")
        elif item.has_words and self._heading is None:
            self._report("missing_tag", head.line, f"expected [Hard Rule] or [Principle] behind {_quote(head.text)}")
        elif item.has_words:
            self._report("tag_style", head.line, f"kind taken from the heading above: {_quote(head.text)}")
        if item.has_words and any(texts):
            self._add(item, texts, self._heading, last.end)
        else:
            self._end_empty(item)

    def _end_empty(self, item: OpenItem) -> None:
        self._report_number(item.head)
        for part in item.parts:
            self._report("empty_item", part.line, f"an item without text: {_quote(part.text)}")

    def _add(self, item: OpenItem, texts: list[str], kind: Kind | None, end: int, dangling_bold: str = "") -> None:
        head = item.head
        text = " ".join(filter(None, texts))
        for markup in filter(None, (head.mark.open_bold, dangling_bold)):
            text = text.replace(markup, "", 1).strip(BLANK)
        self._report_number(head)
        if not text:
            self._report("empty_item", head.line, f"an item without text: {_quote(head.text)}")
            return
        if not opens_as_response(text):
            self._report("not_the_response", head.line, f'expected "The response ...", got {_quote(text)}')
        self._last_head = head
        self.criteria.append(Criterion(head.mark.number, text, kind, Span(head.start, end, head.line, head.column)))

    # ---- reports ----

    def _report(self, code: str, line: int, message: str) -> None:
        self.issues.append(Issue(code, line, message))

    def _report_tag(self, fragment: Fragment, tag: Tag, *, is_exact: bool, is_only: bool) -> None:
        if not is_exact:
            self._report("tag_style", fragment.line, f"expected {tag.kind.tag} at the end: {_quote(fragment.text)}")
        elif not is_only:
            self._report("tag_style", fragment.line, f"another tag is in the text: {_quote(fragment.text)}")

    def _report_number(self, head: Fragment) -> None:
        mark = head.mark
        if not mark.is_exact:
            self._report("numbering_style", head.line, f"expected `1. ` or its like at the start: {_quote(head.text)}")
        if mark.number is None:
            return
        if mark.number in self._numbers:
            self._report("numbering_duplicate", head.line, f"{mark.number} has been used: {_quote(head.text)}")
        elif mark.number != self._last_number + 1:
            self._report("numbering_gap", head.line, f"got {mark.number}, expected {self._last_number + 1}")
        self._numbers.add(mark.number)
        self._last_number = mark.number


def _wrapper_code(wrapper: str) -> str:
    if wrapper[0] in "`~":
        return "code_fence"
    return "think_block" if "think" in wrapper.lower() else "wrapper"


def _quote(text: str) -> str:
    text = " ".join(text[: 2 * _QUOTED_CHARACTERS].split())
    return f'"{text[:_QUOTED_CHARACTERS]}…"' if len(text) > _QUOTED_CHARACTERS else f'"{text}"'
