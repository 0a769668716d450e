#include "rubric/answer_line.h"

#include <algorithm>

#include "rubric/mark.h"
#include "rubric/phrase.h"
#include "rubric/tables.h"
#include "rubric/tag.h"

namespace rubricrm::rubric {
namespace {

constexpr Text kOpeningQuotes = U"`\"'“‘«「『", kClosingQuotes = U"`\"'”’»」』";
constexpr Text kEndsPart = U")]）】］>}*_:：";
constexpr size_t kEndLookedAt = 16;

}  // namespace

bool starts_item(Text text, size_t start) { return read_mark(text, 1, start).number || says_response(text, start); }

size_t first_word(Text text, size_t start) {
  while (start < text.size() && is_space(text[start])) ++start;
  return std::min(start, text.size());
}

void AnswerReader::Line::take(size_t end) {
  if (position_ < end) found.parts.emplace_back(position_, end);
  go_on(end);
}

void AnswerReader::Line::go_on(size_t position) {
  position_ = position;
  word_ = first_word(text, position);
}

bool AnswerReader::Line::is_quoted(const Match& match) const {
  if (match.start() == 0 || match.end() == text.size()) return false;
  const size_t opening = kOpeningQuotes.find(text[match.start() - 1]);
  return opening != Text::npos && text[match.end()] == kClosingQuotes[opening];
}

bool AnswerReader::Line::is_ended_before(const Match& match) const {
  const size_t start = match.start();
  if (ends_sentence(text, start)) return true;
  const Text before = strip_end(slice(text, start - std::min(start, kEndLookedAt), start));
  return !before.empty() && contains(kEndsPart, before.back());
}

bool AnswerReader::Line::goes_on_after(const Match& match) const {
  return patterns::answer::kGoesOn.match(text, match.end()).has_value();
}

bool AnswerReader::Line::is_tag_after(const Match& match) const {
  const size_t after = first_word(text, match.end());
  return after < text.size() && first_word(text, skip_tag(text, after)) == text.size();
}

bool AnswerReader::Line::is_closing_a_word(const Match& match) const {
  if (is_quoted(match)) return true;
  const size_t after = first_word(text, match.end());
  if (after == text.size() || starts_item(text, after)) return false;
  if (is_blank_before(match)) return is_start_inside() && goes_on_after(match);
  if (is_tag_after(match)) return true;
  return !is_ended_before(match) && (goes_on_after(match) || is_item());
}

}  // namespace rubricrm::rubric
