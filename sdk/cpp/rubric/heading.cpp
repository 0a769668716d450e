#include "rubric/heading.h"

#include "rubric/phrase.h"
#include "rubric/tables.h"
#include "rubric/tag.h"

namespace rubricrm::rubric {
namespace {

using namespace patterns::heading;  // the names of heading.py

constexpr size_t kLongestKindHeading = 160;
constexpr size_t kMostTitleWords = 8;
constexpr size_t kLongestTitle = 120;
constexpr size_t kMostExplanationWords = 14;

bool has_at_most_words(Text text, size_t most) { return count_words(text, most + 1) <= most; }

bool ends_with_colon(Text text) { return !text.empty() && contains(U":：", text.back()); }

}  // namespace

std::optional<Heading> read_heading(Text text, const Mark& mark) {
  if (text.size() > kLongestKindHeading || mark.kind || !may_name_kind(text)) return std::nullopt;
  if (const auto match = kKindHeading.full_match(text, mark.end)) {
    const bool has_more = !is_blank((*match)[Group::kLead]) || !is_blank((*match)[Group::kTail]);
    return Heading{kind_of(*match), mark.end > 0 || has_more};
  }
  const auto match = kExplained.full_match(text, mark.end);
  if (!match) return std::nullopt;
  const Kind kind = kind_of(*match);
  const Text name = (*match)[kind == Kind::kHardRule ? Group::kHardRule : Group::kPrinciple];
  const Text words = (*match)[Group::kWords];
  if (!contains(U"sS", name.back())) return std::nullopt;
  if (!has_at_most_words(words, kMostExplanationWords) || says_response(words)) return std::nullopt;
  return Heading{kind, true};
}

bool is_markdown_heading(Text text) { return kMarkdownHeading.match(text).has_value(); }

bool is_section(Text text) {
  if (is_markdown_heading(text)) return true;
  if (text.size() > kLongestTitle || ends_sentence(text) || says_response(text)) return false;
  const bool is_label = ends_with_colon(text) || kOrdinalTitle.match(text);
  return (is_label && has_at_most_words(text, kMostTitleWords)) || kAllBold.match(text);
}

bool is_title(Text words, Text line) {
  if (words.size() > kLongestTitle || ends_sentence(words) || says_response(words)) return false;
  if (is_blank(words)) return false;
  return has_at_most_words(words, kMostTitleWords) || is_set_title(words, line);
}

bool is_set_title(Text words, Text line) { return is_markdown_heading(line) || kAllBold.match(strip(words)); }

bool is_title_of(Text words, Text line, Text following) {
  if (!is_markdown_heading(line)) return is_set_title(words, line);
  const Text rest = strip_start(following, U"*_ ");
  const bool is_capital = !rest.empty() && is_upper(rest[0]), is_small = !rest.empty() && is_lower(rest[0]);
  return is_capital || (has_no_case(words) && !is_small);
}

bool is_remark(Text text) { return kRemark.match(text).has_value(); }

bool is_ruled(Text text) { return kRuled.match(text).has_value(); }

}  // namespace rubricrm::rubric
