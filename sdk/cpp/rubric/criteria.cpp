#include "rubric/criteria.h"

#include <algorithm>
#include <utility>

#include "rubric/phrase.h"
#include "rubric/tables.h"
#include "rubric/utf8.h"

namespace rubricrm::rubric {
namespace {

using namespace patterns::criteria;  // the names of criteria.py

constexpr size_t kLongestMarkupAtEnd = 12;

// The text without mark-up that a pattern found at one end of it, where the text does not hold the other end, which
// starts with `other` in HTML.
std::u32string without_lone_markup(const std::u32string& text, const std::optional<Match>& match, Text other) {
  if (!match) return text;
  std::u32string rest(slice(text, 0, match->start()));
  rest += slice(text, match->end());
  std::u32string wanted((*match)[Group::kMarkup]);
  if (wanted.empty()) wanted.append(other).append((*match)[Group::kName]);
  return contains(rest, wanted) ? text : std::u32string(strip(rest));
}

// The text without mark-up at its start that nothing closes, or at its end that nothing opens.
std::u32string without_open_markup(std::u32string text) {
  text = without_lone_markup(text, kMarkupAtStart.match(text), U"</");
  const size_t near_end = text.size() - std::min(text.size(), kLongestMarkupAtEnd);
  return without_lone_markup(text, kMarkupAtEnd.search(text, near_end), U"<");
}

// The texts that are not empty, joined by spaces.
std::u32string joined(const std::vector<std::u32string>& texts) {
  std::vector<Text> words;
  for (const std::u32string& text : texts) {
    if (!text.empty()) words.push_back(text);
  }
  return join(words);
}

template <class Iterator>
bool any_text(Iterator first, Iterator end) {
  return std::any_of(first, end, [](const std::u32string& text) { return !text.empty(); });
}

}  // namespace

void Criteria::close(const OpenItem& item, const Tag& tag) {
  const Fragment& last = item.last_part();
  const size_t index = item.parts().size() - 1;
  report_tag(last, tag, tag.is_exact() && last.is_set_off(tag), item.num_tags() == 1);
  const Tag* first = &tag;
  for (size_t i = last.tags.size() - 1; i-- > 0;) {
    if (!is_blank(slice(last.text, last.tags[i].end, first->start))) break;
    first = &last.tags[i];  // a tag written twice
  }
  Texts texts;
  for (size_t earlier = 0; earlier < index; ++earlier) texts.push_back(item.text_of(earlier));
  texts.push_back(item.text_before(index, *first));
  add(item, std::move(texts), tag.kind, last.end_offset(tag.end), tag.is_unbalanced);
}

void Criteria::end(const OpenItem& item, std::optional<Kind> heading, bool at_end, bool truncated) {
  const size_t tagged = item.first_tagged_part();
  const bool has_tag = tagged < item.parts().size();
  if (item.is_doubtful() && (!has_tag || (item.head().mark.is_none() && !item.head().starts_with_tag()))) {
    for (const auto& part : item.parts()) set_aside(*part);
  } else if (!has_tag) {
    const auto kind = item.head().mark.kind;
    end_untagged(item, kind ? kind : heading, at_end, truncated);
  } else if (item.awaits_description()) {
    close(item, item.last_part().tags.back());
  } else if (item.has_words()) {
    end_early_tagged(item, tagged);
  } else {
    end_empty(item);
  }
}

void Criteria::set_aside(const Fragment& fragment) {
  const char* const code = found_.empty() ? "preamble" : !fragment.mark.is_none() ? "nested_list" : "trailing_text";
  report_.add(code, fragment.line(), "in no criterion: " + quote(fragment.text));
}

void Criteria::end_early_tagged(const OpenItem& item, size_t index) {
  const Fragment& part = *item.parts()[index];
  const Tag& tag = part.tags[0];
  Texts texts = item.texts();
  const std::u32string before = item.text_before(index, tag), after = item.text_after(index, tag);
  report_tag(part, tag, false, item.num_tags() == 1);
  if (!item.is_complete_before(index, tag)) {
    const bool is_close = !after.empty() && contains(U".,;:", after[0]);
    texts[index] = std::u32string(strip(before + (is_close ? U"" : U" ") + after));
    const Fragment& last = item.last_part();
    add(item, std::move(texts), tag.kind, last.end_offset(last.text.size()), tag.is_unbalanced);
    return;
  }
  // The sentence was complete: what follows its tag is a remark.
  texts.resize(index);
  texts.push_back(before);
  add(item, std::move(texts), tag.kind, part.end_offset(tag.end), tag.is_unbalanced);
  if (!after.empty()) report_.add("trailing_text", part.line(), "in no criterion: " + quote(after));
  for (size_t later = index + 1; later < item.parts().size(); ++later) set_aside(*item.parts()[later]);
}

void Criteria::end_untagged(const OpenItem& item, std::optional<Kind> kind, bool at_end, bool truncated) {
  const Fragment& head = item.head();
  const Fragment& last = item.last_part();
  Texts texts = item.texts();
  const bool is_ended = item.is_ended() || ends_with_unknown_tag(last.text) || has_unended_;
  if (at_end && (truncated || !is_ended || !item.has_words())) {
    texts.back() = std::u32string(without_cut_tag(texts.back()));
    report_.add("truncated", head.line(), "the last item ends at " + quote(rubric::last(last.text, kQuotedCharacters)));
  } else if (item.has_words() && !kind) {
    report_.add("missing_tag", head.line(), "expected [Hard Rule] or [Principle] after " + quote(head.text));
  } else if (item.has_words()) {
    report_.add("tag_style", head.line(), "kind taken from its number or a heading: " + quote(head.text));
  }
  if (item.has_words() && any_text(texts.begin(), texts.end())) {
    has_unended_ = has_unended_ || !item.is_ended();
    add(item, std::move(texts), kind, last.end_offset(last.text.size()));
  } else {
    end_empty(item);
  }
}

void Criteria::end_empty(const OpenItem& item) {
  report_number(item.head());
  for (const auto& part : item.parts()) {
    report_.add("empty_item", part->line(), "an item without text: " + quote(part->text));
  }
}

void Criteria::add(const OpenItem& item, Texts texts, std::optional<Kind> kind, size_t end, bool is_unbalanced) {
  const Fragment& head = item.head();
  if (item.is_described() && any_text(texts.begin() + 1, texts.end())) {
    report_.add("heading", head.line(), "the title " + quote(texts[0]) + " is in no text");
    texts.erase(texts.begin());
  }
  std::u32string text = joined(texts);
  if (is_unbalanced || head.mark.opens_markup) text = without_open_markup(text);
  report_number(head);
  if (text.empty()) {
    report_.add("empty_item", head.line(), "an item without text: " + quote(head.text));
    return;
  }
  if (!opens_as_response(text)) {
    report_.add("not_the_response", head.line(), "expected \"The response ...\", got " + quote(text));
  }
  const auto marked_up = kAllMarkedUp.full_match(text);
  const bool is_marked_up = marked_up && opens_as_response((*marked_up)[Group::kText]);
  last_head_ = item.parts()[0];
  const Place place = head.place();
  found_.push_back({head.mark.number,
                    to_utf8(is_marked_up ? (*marked_up)[Group::kText] : Text(text)),
                    kind,
                    {place.offset, end, place.line, place.column}});
}

void Criteria::report_tag(const Fragment& fragment, const Tag& tag, bool is_exact, bool is_only) {
  if (!is_exact) {
    const std::string expected = "expected " + std::string(kind_tag(tag.kind)) + " at the end: ";
    report_.add("tag_style", fragment.line(), expected + quote(fragment.text));
  } else if (!is_only) {
    report_.add("tag_style", fragment.line(), "another tag is in the text: " + quote(fragment.text));
  }
}

void Criteria::report_number(const Fragment& head) {
  if (!head.mark.is_exact) {
    report_.add("numbering_style", head.line(), "expected `1. ` or its like at the start: " + quote(head.text));
  }
  if (!head.mark.number) return;
  const int number = *head.mark.number;
  if (!numbers_.insert(number).second) {
    report_.add("numbering_duplicate", head.line(), std::to_string(number) + " has been used: " + quote(head.text));
  } else if (number != last_number_ + 1) {
    report_.add("numbering_gap", head.line(),
                "got " + std::to_string(number) + ", expected " + std::to_string(last_number_ + 1));
  }
  last_number_ = number;
}

}  // namespace rubricrm::rubric
