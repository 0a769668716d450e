#include "rubric/tag.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "rubric/phrase.h"
#include "rubric/tables.h"
#include "rubric/utf8.h"

namespace rubricrm::rubric {
namespace {

using namespace patterns::tag;  // the names of tag.py

constexpr Text kNameEnds[] = {U"rule", U"rules", U"principle", U"principles", U"则", U"則",
                              U"求",   U"束",    U"ル",        U"件",         U"룰", U"칙"};
// Square brackets always hold a tag; others only at the end of a sentence or of an item, or at its start.
constexpr Text kSquare = U"[［【〔〖";
constexpr size_t kMarkupLookedAt = 96;
constexpr Text kMarkupEnds[] = {U"*", U"_", U"`", U"~", U"=", U"\\", U">", U"> ", U"--", U"- ", U"{", U"$"};
constexpr size_t kLongestColon = Text(U":** **").size();
constexpr size_t kBareLookedAt = 48;
constexpr size_t kShortestBefore = 6;  // "II. Principles" is a heading
constexpr Text kClosingQuotes = U"\"'”’»」』";
constexpr size_t kLongestTag = 24;
constexpr Text kWholeNames[] = {U"hard rule", U"principle", U"硬性规则", U"原则"};

// text[max(floor, end - count):end]
Text tail_before(Text text, size_t end, size_t floor, size_t count) {
  return slice(text, std::max(floor, end - std::min(end, count)), end);
}

template <size_t kCount>
bool ends_with_any(Text text, const Text (&ends)[kCount]) {
  return std::any_of(ends, ends + kCount, [text](Text end) { return ends_with(text, end); });
}

bool is_sentence_before(Text text, size_t end, size_t floor) {
  return ends_sentence(text, end) || is_blank(tail_before(text, end, floor, kMarkupLookedAt));
}

size_t num_characters(const std::optional<Match>& match) { return match ? match->text().size() : 0; }

// The tag with the mark-up around it.
Tag with_markup(Text text, const Match& match, size_t floor) {
  size_t start = match.start();
  if (ends_with_any(slice(text, floor, start), kMarkupEnds) ||
      contains(tail_before(text, start, floor, kLongestTag), U'\\')) {
    start -= num_characters(kMarkupBefore.search(tail_before(text, start, floor, kMarkupLookedAt)));
  }
  if (contains(tail_before(text, start, floor, kLongestColon), U':')) {
    const size_t label = num_characters(kLabelBefore.search(tail_before(text, start, floor, kMarkupLookedAt)));
    if (is_sentence_before(text, start - label, floor)) start -= label;
  }
  const auto after = kMarkupAfter.match(text, match.end());
  const size_t end = after ? after->end() : match.end();
  const bool is_unbalanced = (start < match.start()) != (end > match.end());
  return {start, end, kind_of(match), slice(text, start, end), is_unbalanced};
}

bool is_quoted(Text text, const Tag& tag) {
  // In backticks a tag is quoted inside a sentence, and set as code after one.
  if (contains(tag.written, U'`')) return !ends_sentence(text, tag.start);
  if (kOpeningQuote.search(tail_before(text, tag.start, 0, 2))) return true;
  return tag.end < text.size() && contains(kClosingQuotes, text[tag.end]) && !ends_sentence(text, tag.start);
}

// Whether a tag in brackets that are no square ones is where a tag belongs.
bool is_clear(Text text, const Tag& tag, bool is_first, bool has_mark) {
  const Text name = strip_start(tag.written, U"([{<*_`\\ ");
  const bool is_capital = name.empty() || !is_lower(name[0]);
  if (is_first) return has_mark || is_capital || is_last(text, tag) || says_response(text, tag.start);
  return ends_sentence(text, tag.start) || (is_capital && is_last(text, tag));
}

Tag whole_match(const Match& match) { return {match.start(), match.end(), kind_of(match), match.text(), false}; }

// The name of a kind without brackets at the end of a line.
std::vector<Tag> bare_tag_at_end(Text text, size_t start) {
  const size_t tail_start = std::max(start, text.size() - std::min(text.size(), kBareLookedAt));
  const Text tail = slice(text, tail_start);
  if (!ends_with_any(lower(strip_end(tail, U"*_`~.。| \t")), kNameEnds)) return {};
  const auto match = kBareAtEnd.search(tail);
  if (!match) return {};
  const size_t at = text.size() - tail.size() + match->start();
  const bool is_labeled = !(*match)[Group::kLabel].empty() && is_sentence_before(text, at, start);
  const bool is_set_off =
      !(*match)[Group::kJoint].empty() || !(*match)[Group::kMarkup].empty() || ends_sentence(text, at);
  const Text name = (*match)[kind_of(*match) == Kind::kHardRule ? Group::kHardRule : Group::kPrinciple];
  const bool is_small = is_lower(name[0]) || (at > 0 && is_alphanumeric(text[at - 1]));
  const bool is_short = strip(slice(text, start, at)).size() < kShortestBefore;
  if (!is_labeled && (is_short || !is_set_off || is_small)) return {};
  return {{at, strip_end(text).size(), kind_of(*match), match->text(), false}};
}

// The name of a kind without brackets at the start or the end of a line.
std::vector<Tag> bare_tag(Text text, size_t start) {
  const auto early = kBareAtStart.match(text, start);
  if (early && (start > 0 || opens_response(text, early->end()))) return {whole_match(*early)};
  return bare_tag_at_end(text, start);
}

}  // namespace

bool Tag::is_exact() const { return to_utf8(join(split(written))) == kind_tag(kind); }

Kind kind_of(const Match& match) { return match[Group::kHardRule].empty() ? Kind::kPrinciple : Kind::kHardRule; }

bool may_name_kind(Text text) {
  const std::u32string small = lower(text);
  return contains(small, U"rule") || contains(small, U"principle") || (!is_ascii(text) && kOtherName.search(text));
}

std::vector<Tag> find_tags(Text text, size_t start) {
  if (!may_name_kind(text)) return {};
  std::vector<Tag> tags;
  const size_t word = text.size() - strip_start(slice(text, start)).size();
  for (auto match = kTag.search(text, start); match; match = kTag.search(text, match->end())) {
    Tag tag = with_markup(text, *match, start);
    const bool is_first = tag.start <= word;
    if (!is_first && is_quoted(text, tag)) continue;
    if (contains(kSquare, (*match)[Group::kOpening][0]) || is_clear(text, tag, is_first, start > 0)) {
      tags.push_back(std::move(tag));
    }
  }
  for (auto match = kBareInside.search(text, start); match; match = kBareInside.search(text, match->end())) {
    if (ends_sentence(text, match->start())) tags.push_back(whole_match(*match));
  }
  std::stable_sort(tags.begin(), tags.end(), [](const Tag& a, const Tag& b) {
    return std::tie(a.start, a.end, a.kind, a.written) < std::tie(b.start, b.end, b.kind, b.written);
  });
  return tags.empty() ? bare_tag(text, start) : tags;
}

bool is_last(Text text, const Tag& tag) { return kOnlyJoints.full_match(text, tag.end).has_value(); }

bool is_bare(Text text, const Tag& tag) {
  return is_blank(slice(text, tag.end)) && (tag.start == 0 || is_space(text[tag.start - 1]));
}

size_t skip_tag(Text text, size_t start) {
  const auto match = kEarlyTag.match(text, start);
  return match ? match->end() : start;
}

bool says_response(Text text, size_t start) { return opens_response(text, skip_tag(text, start)); }

bool is_tag_split(Text before, Text after) {
  std::u32string line(strip_end(last(before, kLongestTag)));
  line += U' ';
  const size_t tail = line.size();
  line += slice(strip_start(after), 0, kLongestTag);
  const auto match = kTag.search(line);
  return match && match->start() < tail && tail < match->end();
}

bool has_open_bracket(Text text) { return kUnclosedBracket.search(last(text, kLongestTag)).has_value(); }

Text without_cut_tag(Text text) {
  const auto match = kCutTag.search(text, text.size() - std::min(text.size(), kLongestTag));
  if (!match) return text;
  const std::u32string begun = lower((*match)[Group::kBegun]);
  const bool is_name = std::any_of(std::begin(kWholeNames), std::end(kWholeNames),
                                   [&begun](Text name) { return starts_with(name, begun); });
  return is_name ? strip_end(slice(text, 0, match->start())) : text;
}

}  // namespace rubricrm::rubric
