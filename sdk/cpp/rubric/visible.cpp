#include "rubric/visible.h"

#include <algorithm>
#include <utility>

#include "rubric/tables.h"

namespace rubricrm::rubric {
namespace {

using patterns::visible::kHidden;

constexpr Text kFillers = U"\u115f\u1160\u2800\u3164\uffa0";  // seen as a space
constexpr Text kJoiners = U"\u200c\u200d";
constexpr char32_t kKeycap = U'\u20e3';
// Signs before numbers in Arabic, Syriac and Kaithi: format characters that one sees.
constexpr Text kNumberSigns = U"\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd";
constexpr char32_t kBlackFlag = U'\U0001f3f4';
constexpr Text kPicturesInText = U"‼⁉〰〽";
constexpr size_t kMostKept = 16;  // the flag of a country's part takes six, a joined picture two

bool is_between(char32_t first, char32_t character, char32_t last) { return first <= character && character <= last; }

bool takes_joiners(char32_t character) {
  const bool is_of_script = is_between(0x0600, character, 0x109f) || is_between(0x1780, character, 0x1cff);
  return is_of_script || character_class::kSymbolOrModifier.holds(character);
}

// Whether a hidden character shows between two that are not hidden.
bool shows(char32_t character, char32_t before, char32_t after) {
  if (contains(kJoiners, character)) return takes_joiners(before) && takes_joiners(after);
  if (is_between(0xfe00, character, 0xfe0f)) {
    return after == kKeycap || contains(kPicturesInText, before) || character_class::kSymbolOrMath.holds(before);
  }
  // The flags of England, Scotland and Wales.
  if (is_between(0xe0020, character, 0xe007f)) return before == kBlackFlag;
  if (is_between(0xe0100, character, 0xe01ef)) return character_class::kOtherLetter.holds(before);
  if (is_between(0x180b, character, 0x180f)) return is_between(0x1800, before, 0x18af);
  return contains(kNumberSigns, character) && is_alphanumeric(after) && !is_ascii(after);
}

}  // namespace

VisibleLine::VisibleLine(std::u32string raw, size_t offset, size_t number)
    : raw_(std::move(raw)), offset_(offset), number_(number) {
  if (patterns::visible::kUnusual.search(raw_)) hide();
}

std::shared_ptr<const VisibleLine> VisibleLine::joined(const std::vector<std::shared_ptr<const VisibleLine>>& lines) {
  std::u32string raw;
  std::vector<size_t> rows;
  for (const auto& line : lines) {
    rows.push_back(raw.size());
    raw += line->raw_;
  }
  const auto joined = std::make_shared<VisibleLine>(std::move(raw), lines[0]->offset_, lines[0]->number_);
  joined->rows_ = std::move(rows);
  return joined;
}

void VisibleLine::hide() {
  size_t start = 0;
  for (auto match = kHidden.search(raw_); match; match = kHidden.search(raw_, match->end())) {
    if (match->start() > start) {
      stretches_.push_back({seen_.size(), start});
      seen_.append(raw_, start, match->start() - start);
    }
    start = match->end();
  }
  stretches_.push_back({seen_.size(), start});
  seen_.append(raw_, start, std::u32string::npos);
  for (char32_t& character : seen_) {
    if (contains(kFillers, character)) character = U' ';
  }
}

Place VisibleLine::place(size_t index) const {
  const size_t raw = raw_index(index);
  const size_t row = std::upper_bound(rows_.begin(), rows_.end(), raw) - rows_.begin() - 1;
  return {offset_ + raw, number_ + row, raw - rows_[row] + 1};
}

size_t VisibleLine::end_offset(size_t index) const { return offset_ + raw_index(index - 1) + 1; }

std::u32string VisibleLine::shown(size_t start, size_t end) const {
  if (!is_hiding() || start >= end) return std::u32string(slice(text(), start, end));
  size_t first = raw_index(start);
  const size_t last = raw_index(end - 1) + 1, stop = end < seen_.size() ? raw_index(end) : raw_.size();
  std::u32string result;
  for (auto match = kHidden.search(raw_, first, stop); match; match = kHidden.search(raw_, first, stop)) {
    result += slice(raw_, first, match->start());
    result += kept(*match);
    first = match->end();
  }
  return result += slice(raw_, first, last);
}

size_t VisibleLine::raw_index(size_t index) const {
  if (!is_hiding()) return index;
  const auto after = std::upper_bound(stretches_.begin(), stretches_.end(), index,
                                      [](size_t at, const Stretch& stretch) { return at < stretch.seen_at; });
  const Stretch& stretch = *(after - 1);
  return stretch.raw_at + index - stretch.seen_at;
}

// What of hidden characters in a row changes how their neighbors look.
std::u32string VisibleLine::kept(const Match& match) const {
  const size_t start = match.start(), end = match.end();
  std::u32string result;
  if (match[Group::kCharacters].empty() || end - start > kMostKept) return result;
  const char32_t before = start > 0 ? raw_[start - 1] : U' ', after = end < raw_.size() ? raw_[end] : U' ';
  for (const char32_t character : match.text()) {
    if (shows(character, before, after)) result += character;
  }
  return result;
}

}  // namespace rubricrm::rubric
