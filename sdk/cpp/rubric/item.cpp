#include "rubric/item.h"

#include <algorithm>
#include <utility>

#include "rubric/heading.h"
#include "rubric/phrase.h"
#include "rubric/tables.h"

namespace rubricrm::rubric {
namespace {

using namespace patterns::item;  // the names of item.py

constexpr Text kSeparatorAfterTag = U":：.,;|–—-。，/ \t";
constexpr size_t kLongestSeparator = 24;

// Where to look for what stands before `end` and is no longer than a separator.
size_t near_start(size_t start, size_t end) { return std::max(start, end - std::min(end, kLongestSeparator)); }

}  // namespace

Fragment::Fragment(std::shared_ptr<const VisibleLine> source, size_t begin, Text text, size_t indent, const Mark& mark,
                   std::vector<Tag> tags)
    : text(text), indent(indent), mark(mark), tags(std::move(tags)), source_(std::move(source)), begin_(begin) {
  const bool is_after_tag = starts_with_tag() && opens_response(text, this->tags[0].end);
  says_response_ = is_after_tag || rubric::says_response(text, mark.end);
}

bool Fragment::opens_sentence() const {
  const size_t start = std::max(mark.end, starts_with_tag() ? tags[0].end : 0);
  return says_response_ && contains(slice(text, start, start + 8), U"The");
}

const Tag* Fragment::closing_tag() const {
  return !tags.empty() && is_last(text, tags.back()) ? &tags.back() : nullptr;
}

bool Fragment::starts_with_tag() const { return !tags.empty() && is_blank(slice(text, mark.end, tags[0].start)); }

const Tag* Fragment::lone_tag() const {
  return mark.is_none() && tags.size() == 1 && starts_with_tag() ? closing_tag() : nullptr;
}

bool Fragment::is_set_off(const Tag& tag) const {
  const size_t start = end_before_separator(mark.end, tag);
  return is_bare(text, tag) && is_blank(slice(text, start, tag.start));
}

bool Fragment::is_tagged_title() const {
  const Tag* const tag = closing_tag();
  if (tag == nullptr || !mark.is_none() || starts_with_tag()) return false;
  const Text words = slice(text, 0, tag->start);
  return is_set_title(words, text) && is_title(words, text);
}

bool Fragment::has_words() const {
  size_t start = mark.end;
  for (const Tag& tag : tags) {
    if (!is_blank(slice(text, start, tag.start))) return true;
    start = tag.end;
  }
  return !strip(slice(text, start), U" \t.,;:*_。．").empty();
}

std::u32string Fragment::shown(size_t start, size_t end) const {
  return std::u32string(strip(source_->shown(begin_ + start, begin_ + end)));
}

size_t Fragment::start_after_breaks(size_t start) const {
  const auto found = kBreaksAtStart.match(text, start);
  return found ? found->end() : start;
}

size_t Fragment::end_before_breaks(size_t start, size_t end) const {
  const auto found = kBreaksAtEnd.search(text, near_start(start, end), end);
  return found ? found->start() : end;
}

size_t Fragment::end_before_separator(size_t start, const Tag& tag) const {
  const size_t end = end_before_breaks(start, tag.start);
  const auto found = kSeparatorBeforeTag.search(text, near_start(start, end), end);
  return found ? found->start() : end;
}

OpenItem::OpenItem(std::shared_ptr<const Fragment> head, bool is_doubtful, bool is_half)
    : parts_{std::move(head)}, is_doubtful_(is_doubtful), is_half_(is_half), has_words_(parts_[0]->has_words()) {}

void OpenItem::add(std::shared_ptr<const Fragment> part) {
  if (awaits_description_) {
    is_described_ = true;
    awaits_description_ = false;
  } else if (parts_.size() == 1 && part->lone_tag() == nullptr) {
    const Text words = title();
    if (!words.empty()) is_described_ = part->opens_sentence() || is_title_of(words, head().text, part->text);
  }
  has_words_ = has_words_ || part->has_words();
  if (part->mark.number) nested_number_ = *part->mark.number;
  parts_.push_back(std::move(part));
}

bool OpenItem::is_only_title() const {
  const bool is_tag_next = parts_.size() < 2 || parts_[1]->lone_tag() != nullptr;
  return is_tag_next && parts_.size() <= 2 && !title().empty();
}

bool OpenItem::is_ended() const { return ends_sentence(last_part().text); }

size_t OpenItem::num_tags() const {
  size_t count = 0;
  for (const auto& part : parts_) count += part->tags.size();
  return count;
}

size_t OpenItem::first_tagged_part() const {
  return std::find_if(parts_.begin(), parts_.end(), [](const auto& part) { return !part->tags.empty(); }) -
         parts_.begin();
}

Text OpenItem::title() const {
  const bool is_after_tag = head().starts_with_tag();
  const size_t start = is_after_tag ? head().tags[0].end : head().mark.end;
  const size_t end = !head().tags.empty() && !is_after_tag ? head().tags[0].start : head().text.size();
  const Text words = slice(head().text, start, end);
  const bool is_known = !head().mark.is_none() || is_set_title(words, head().text);
  return is_known && is_title(words, head().text) ? words : Text();
}

bool OpenItem::can_be_described_by(const Fragment& fragment) const {
  const bool is_deep = fragment.indent > head().indent + 1;
  const bool is_set = is_set_title(title(), head().text);
  if (is_remark(fragment.text)) return false;
  if (fragment.mark.is_bullet()) return (is_deep || is_set) && fragment.tags.empty();
  if (!fragment.mark.is_none() || is_section(fragment.text) || fragment.lone_tag() != nullptr) return false;
  return fragment.opens_sentence() || is_deep || is_set;
}

bool OpenItem::leaves_open(const Fragment& fragment, bool is_after_blank) const {
  const bool is_start = !fragment.mark.is_none() || fragment.opens_sentence();
  return !(is_after_blank || is_ended() || is_start);
}

bool OpenItem::is_complete_before(size_t index, const Tag& tag) const {
  const std::u32string before = text_before(index, tag);
  return ends_sentence(before) || (before.empty() && index > 0 && ends_sentence(parts_[index - 1]->text));
}

std::u32string OpenItem::text_of(size_t index) const {
  const Fragment& part = *parts_[index];
  const size_t begin = begin_of(index), end = part.text.size();
  return part.shown(begin, index + 1 == parts_.size() ? part.end_before_breaks(begin, end) : end);
}

std::u32string OpenItem::text_before(size_t index, const Tag& tag) const {
  const Fragment& part = *parts_[index];
  size_t begin = begin_of(index);
  const Tag& first = part.tags[0];
  const bool is_twice = first.end < tag.start && first.kind == tag.kind;
  if (is_twice && is_blank(slice(part.text, begin, first.start))) begin = first.end;
  return part.shown(begin, part.end_before_separator(begin, tag));
}

std::u32string OpenItem::text_after(size_t index, const Tag& tag) const {
  const Fragment& part = *parts_[index];
  const std::u32string after =
      part.shown(part.start_after_breaks(tag.end), part.end_before_breaks(tag.end, part.text.size()));
  return text_before(index, tag).empty() ? std::u32string(strip_start(after, kSeparatorAfterTag)) : after;
}

std::vector<std::u32string> OpenItem::texts() const {
  std::vector<std::u32string> all;
  for (size_t index = 0; index < parts_.size(); ++index) all.push_back(text_of(index));
  return all;
}

size_t OpenItem::begin_of(size_t index) const {
  const Fragment& part = *parts_[index];
  const bool is_marked = index == 0 || (is_described_ && part.mark.is_bullet());
  return is_marked ? part.start_after_breaks(part.mark.end) : 0;
}

}  // namespace rubricrm::rubric
