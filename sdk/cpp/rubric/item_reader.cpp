#include "rubric/item_reader.h"

#include <utility>

#include "rubric/heading.h"
#include "rubric/phrase.h"

namespace rubricrm::rubric {
namespace {

constexpr size_t kFewestWordsOfHalf = 4;

bool ends_with_colon(Text text) { return !text.empty() && contains(U":：", text.back()); }

bool starts_small(Text text) { return !text.empty() && is_lower(text[0]); }

std::optional<Heading> heading_of(const Fragment& fragment) {
  return fragment.tags.empty() ? read_heading(fragment.text, fragment.mark) : std::nullopt;
}

}  // namespace

int ItemReader::number_so_far() const {
  return item_ ? item_->head().mark.number.value_or(list_.last_number()) : list_.last_number();
}

std::optional<int> ItemReader::next_number() const {
  return item_ ? std::nullopt : std::optional<int>(list_.last_number() + 1);
}

std::optional<size_t> ItemReader::open_line() const {
  return item_ ? std::optional<size_t>(item_->head().line()) : std::nullopt;
}

void ItemReader::read(const Shared& fragment, bool is_after_blank) {
  if (fragment->tags.empty() && is_ruled(fragment->text)) {
    list_.set_aside(*fragment);
    return;
  }
  if (!item_) {
    read_outside(fragment, nullptr);
  } else if (is_section_above(*item_, *fragment)) {
    report_.add("heading", item_->head().line(), quote(item_->head().text) + " is above items of another style");
    item_.reset();
    read_outside(fragment, nullptr);
  } else if (ends(*item_, *fragment, is_after_blank)) {
    const OpenItem ended = end_item();
    read_outside(fragment, &ended);
  } else {
    continue_item(*item_, fragment);
  }
  close_at_tag(*fragment);
}

void ItemReader::finish(bool truncated) {
  if (item_) list_.end(take_item(), heading_, true, truncated);
}

// ---- what a fragment is ----

void ItemReader::read_outside(const Shared& fragment, const OpenItem* after) {
  if (read_heading_line(*fragment)) return;
  if (can_be_item(*fragment)) {
    item_.emplace(fragment, is_doubtful(*fragment, after) && !fragment->is_tagged_title(), false);
  } else if (can_be_half(*fragment)) {
    item_.emplace(fragment, true, true);
  } else {
    list_.set_aside(*fragment);
  }
}

bool ItemReader::read_heading_line(const Fragment& fragment) {
  const Tag* const lone_tag = fragment.lone_tag();
  const auto heading = heading_of(fragment);
  if (lone_tag == nullptr && !heading) {
    if (is_markdown_heading(fragment.text) && fragment.mark.is_none()) heading_.reset();
    return false;
  }
  heading_ = lone_tag != nullptr ? lone_tag->kind : heading->kind;
  report_.add("heading", fragment.line(), quote(fragment.text) + " names the kind of the items below");
  return true;
}

bool ItemReader::can_be_item(const Fragment& fragment) const {
  if (!fragment.mark.is_none()) return true;
  if (fragment.says_response()) return !ends_with_colon(fragment.text);
  // Without number or "The response", only a tag after a full stop makes an item, and only where no item has a number:
  // "Each line ends with [Hard Rule] or [Principle]" is a remark.
  const Tag* const tag = fragment.closing_tag();
  if (tag == nullptr || list_.has_numbers()) return false;
  return ends_sentence(fragment.text, tag->start) || fragment.is_tagged_title();
}

// Whether a line without known mark may be the first half of an item that wraps.
bool ItemReader::can_be_half(const Fragment& fragment) const {
  if (list_.has_numbers() || !fragment.tags.empty() || ends_with_colon(fragment.text)) return false;
  const bool is_long = count_words(fragment.text, kFewestWordsOfHalf) == kFewestWordsOfHalf;
  return (is_long || !is_ascii(fragment.text)) && !is_section(fragment.text) && !ends_sentence(fragment.text);
}

bool ItemReader::is_doubtful(const Fragment& fragment, const OpenItem* after) const {
  const Mark& mark = fragment.mark;
  const bool says = fragment.says_response();
  const Fragment* const last = list_.last_head();
  const bool is_deep = last != nullptr && fragment.indent > last->indent + 1;
  if (mark.style == Style::kDecimal) return !says && last != nullptr && last->mark.style != Style::kDecimal;
  if (!mark.number) return !mark.is_bullet() || is_deep || !(says || (last != nullptr && last->mark.is_bullet()));
  if (after != nullptr && after->is_doubtful()) {
    const int number = after->head().mark.number.value_or(0);
    if (*mark.number == (number != 0 ? number : -1) + 1) return !says;
  }
  // "The response", the next number, the place of an item: two of the three make one.
  return says + (*mark.number == list_.last_number() + 1) + !is_deep < 2;
}

// Whether the open item is a heading, and the fragment the first item below it.
bool ItemReader::is_section_above(const OpenItem& item, const Fragment& fragment) const {
  const Fragment& head = item.head();
  const Mark& mark = fragment.mark;
  if (mark.is_none() || item.parts().size() > 1 || !head.tags.empty() || item.title().empty()) return false;
  const bool is_same =
      mark.style == head.mark.style && is_markdown_heading(head.text) == is_markdown_heading(fragment.text);
  if (is_same && (item.is_doubtful() || mark.number == head.mark.number.value_or(0) + 1)) return false;
  return fragment.closing_tag() != nullptr || fragment.opens_sentence();
}

// Whether a fragment is no part of the open item.
bool ItemReader::ends(const OpenItem& item, const Fragment& fragment, bool is_after_blank) const {
  if (item.awaits_description()) return !item.can_be_described_by(fragment);
  if (item.is_half() && !item.leaves_open(fragment, is_after_blank)) return true;
  return is_new_item(item, fragment) || is_no_part(item, fragment, is_after_blank);
}

// Whether a fragment starts an item of its own while one is open.
bool ItemReader::is_new_item(const OpenItem& item, const Fragment& fragment) const {
  const Mark& mark = fragment.mark;
  const Fragment& head = item.head();
  const bool says = fragment.says_response();
  const bool is_deep = fragment.indent > head.indent + 1;
  if (mark.style == Style::kDecimal) return head.mark.style == Style::kDecimal || (says && !is_deep);
  if (mark.number) {
    if (mark.style != head.mark.style && !(says || head.mark.is_none() || item.is_doubtful())) return false;
    return is_new_number(item, *mark.number, says, is_deep);
  }
  if (mark.is_bullet()) {
    const bool is_part = item.is_described() && fragment.tags.empty();
    return !is_deep && !is_part && (head.mark.is_bullet() || (says && item.is_ended()));
  }
  if (says && !fragment.tags.empty() && item.is_ended() && item.num_tags() > 0) return true;
  return head.mark.is_none() && says && (item.is_ended() || fragment.starts_with_tag());
}

bool ItemReader::is_new_number(const OpenItem& item, int number, bool says, bool is_deep) const {
  const Mark& head = item.head().mark;
  if (head.is_none()) return !is_deep;
  const int previous = head.number.value_or(list_.last_number());
  const bool is_next = number == previous + 1 || (item.is_doubtful() && number == list_.last_number() + 1);
  if (is_deep) return says && is_next && item.nested_number() == 0;
  if (item.nested_number() != 0 && number == item.nested_number() + 1 && !says) return false;
  if (is_next) return says || item.is_ended() || !item.head().says_response();
  return item.is_ended() && (says || number > previous);
}

// Whether a fragment ends an open item: a heading, or a remark after a blank line.
bool ItemReader::is_no_part(const OpenItem& item, const Fragment& fragment, bool is_after_blank) const {
  const auto heading = heading_of(fragment);
  if (heading && heading->is_adorned) {
    return item.is_ended() || !starts_small(strip_start(slice(fragment.text, fragment.mark.end), U"#*_ "));
  }
  if (is_markdown_heading(fragment.text) && item.is_ended() && !fragment.says_response()) return true;
  if (!fragment.mark.is_none()) return false;
  if (const Tag* const tag = fragment.lone_tag()) return heading_ && heading_ != tag->kind;
  if (heading && !starts_small(fragment.text)) return item.is_ended() || (heading_ && heading_ != heading->kind);
  if (is_markdown_heading(fragment.text)) return true;
  if (!item.is_ended()) return false;
  if (fragment.tags.empty() && (is_after_blank || is_section(fragment.text))) return true;
  return fragment.is_tagged_title();
}

// ---- what becomes of it ----

void ItemReader::continue_item(OpenItem& item, const Shared& fragment) {
  if (!fragment->mark.is_none() && !item.is_doubtful()) {
    report_.add("nested_list", fragment->line(), "read as text of the item: " + quote(fragment->text));
  }
  item.add(fragment);
}

// Ends the open item where the fragment brought its tag; not at a tag before any word, or after a title.
void ItemReader::close_at_tag(const Fragment& fragment) {
  if (!item_ || fragment.tags.empty() || !item_->has_words()) return;
  const Tag* const tag = fragment.closing_tag();
  const size_t last = item_->parts().size() - 1;
  if (tag != nullptr && item_->is_only_title()) {
    item_->await_description();
  } else if (tag != nullptr && (!item_->is_half() || item_->is_complete_before(last, *tag))) {
    list_.close(take_item(), *tag);
  } else if (item_->is_half() || item_->is_complete_before(last, fragment.tags[0])) {
    end_item();
  }
}

// Ends the open item, which no tag closed.
OpenItem ItemReader::end_item() {
  OpenItem item = take_item();
  list_.end(item, heading_);
  return item;
}

OpenItem ItemReader::take_item() {
  OpenItem item = std::move(*item_);
  item_.reset();
  return item;
}

}  // namespace rubricrm::rubric
