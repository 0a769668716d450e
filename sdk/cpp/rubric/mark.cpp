#include "rubric/mark.h"

#include <algorithm>

#include "rubric/numeral.h"
#include "rubric/phrase.h"
#include "rubric/tables.h"
#include "rubric/tag.h"
#include "rubric/utf8.h"

namespace rubricrm::rubric {
namespace {

using namespace patterns::mark;  // the names of mark.py
using Reader = std::optional<Mark> (*)(Text text, int expected, size_t start);

constexpr size_t kLongestOtherName = 48;
// No name of `kNamed` starts with one of these.
constexpr Text kFirstOfNoName = U"abdefjklmoqtuvwxyzABDEFJKLMOQTUVWXYZ";
// A longer number at the start of a line is a year or a quantity, unless it is the very next number.
constexpr int kMaxNumber = 999;
constexpr Text kStrongPoints = U".．)）、:：\\";
constexpr Text kOpeningBrackets = U"[［【<〔", kClosingBrackets = U"]］】>〕";

Mark marked(Style style, std::optional<int> number, const Match& match) {
  Mark mark;
  mark.style = style;
  mark.number = number;
  mark.end = match.end();
  const bool is_shut = !match[Group::kShut].empty() || !match[Group::kShut2].empty();
  mark.opens_markup = !match[Group::kMarkup].empty() && !is_shut;
  return mark;
}

// Whether a square or angle bracket before a number is closed after it, and none closed that was not opened.
bool is_closed(Text opening, Text point) {
  opening = strip_start(opening, U"\\");
  point = strip_start(point, U"\\");
  const size_t opened = opening.empty() ? Text::npos : kOpeningBrackets.find(opening[0]);
  const size_t closed = point.empty() ? Text::npos : kClosingBrackets.find(point[0]);
  return opened == closed;
}

std::optional<Mark> read_digits(Text text, int expected, size_t start) {
  const auto match = kDigits.match(text, start);
  if (!match) return std::nullopt;
  const int number = static_cast<int>(decimal_value((*match)[Group::kNumeral]));
  const Text point = strip((*match)[Group::kPoint]);
  if ((number > kMaxNumber && number != expected) || !is_closed((*match)[Group::kBracket], point)) return std::nullopt;
  const bool is_strong = !point.empty() && contains(kStrongPoints, point[0]);
  const bool is_expected = number == expected && (!point.empty() || !(*match)[Group::kHash].empty());
  if (!is_strong && !is_expected && !says_response(text, match->end())) return std::nullopt;
  const size_t gap_end = match->end(Group::kGap);
  const Text written = strip_end(slice(text, start, gap_end));
  Mark mark = marked(Style::kDigits, number, *match);
  mark.is_exact = to_utf8(written) == std::to_string(number) + "." &&
                  (!(*match)[Group::kGap].empty() || match->end() == text.size()) && gap_end == match->end();
  return mark;
}

std::optional<Mark> read_letters(Text text, int expected, size_t start) {
  const auto match = kLetters.match(text, start);
  const auto number = match ? number_of((*match)[Group::kNumeral], expected) : std::nullopt;
  if (!number) return std::nullopt;
  if (!says_response(text, match->end())) {
    const bool is_next = number == 1 || number == expected;
    if (!is_next || !contains(U".．)）、", strip((*match)[Group::kPoint])[0])) return std::nullopt;
    // "e.g. a map", "U.S. law": letters that no space follows are an abbreviation.
    const bool has_gap = !(*match)[Group::kGap].empty() || match->end() == text.size();
    if (!has_gap && is_ascii((*match)[Group::kNumeral])) return std::nullopt;
  }
  return marked(Style::kLetters, number, *match);
}

std::optional<Mark> read_enclosed(Text text, int expected, size_t start) {
  const auto match = kEnclosed.match(text, start);
  const auto number = match ? number_of((*match)[Group::kNumeral], expected) : std::nullopt;
  return number ? std::optional<Mark>(marked(Style::kEnclosed, number, *match)) : std::nullopt;
}

std::optional<Mark> read_decimal(Text text, int, size_t start) {
  const auto match = kDecimal.match(text, start);
  if (!match || (*match)[Group::kGap].empty()) return std::nullopt;
  // "1.5 million" goes on in small letters.
  const size_t end = match->end();
  if (end < text.size() && is_lower(text[end]) && !says_response(text, end)) return std::nullopt;
  return marked(Style::kDecimal, std::nullopt, *match);
}

std::optional<Mark> read_named(Text text, int expected, size_t start) {
  if (start < text.size() && contains(kFirstOfNoName, text[start])) return std::nullopt;
  const auto match = kNamed.match(text, start);
  if (!match) return std::nullopt;
  const Text ordinal = (*match)[Group::kOrdinal];
  const auto number = number_of(ordinal.empty() ? (*match)[Group::kNumeral] : ordinal, expected);
  if (!number) return std::nullopt;
  const Text point = strip((*match)[Group::kPoint]);
  const size_t end = match->end();
  const bool is_set_off = !(point.empty() || point == U"," || point == U"，") || !ordinal.empty() ||
                          end == text.size() || skip_tag(text, end) > end;
  if (!is_set_off && !says_response(text, end)) return std::nullopt;
  Mark mark = marked(Style::kNamed, number, *match);
  if (match->has(Group::kHardRule) || match->has(Group::kPrinciple)) mark.kind = kind_of(*match);
  return mark;
}

std::optional<Mark> read_other_name(Text text, int, size_t start) {
  const size_t found = slice(text, start, start + kLongestOtherName).find(U"The response");
  if (found == 0 || found == Text::npos || may_name_kind(slice(text, start, start + found))) return std::nullopt;
  const auto match = kOtherName.full_match(text, start, start + found);
  if (!match) return std::nullopt;
  Mark mark;
  mark.style = Style::kNamed;
  mark.number = number_of((*match)[Group::kNumeral], 0);
  mark.end = start + found;
  return mark;
}

std::optional<Mark> read_bullet(Text text, int, size_t start) {
  auto match = kBullet.match(text, start);
  if (!match) match = kPictures.match(text, start);
  if (!match) {
    match = kNoWords.match(text, start);
    if (!match || !opens_response(text, match->end())) return std::nullopt;
  }
  Mark mark;
  mark.style = Style::kBullet;
  mark.end = match->end();
  return mark;
}

// Most lines start with a letter or a digit: what cannot be there is not tried.
constexpr Reader kOfLatin[] = {read_letters, read_named, read_other_name};
constexpr Reader kOfDigits[] = {read_digits, read_enclosed, read_decimal, read_other_name};
constexpr Reader kAll[] = {read_digits,  read_letters,    read_named, read_enclosed,
                           read_decimal, read_other_name, read_bullet};

template <size_t kCount>
Mark read_with(const Reader (&readers)[kCount], Text text, int expected, size_t start) {
  for (const Reader read : readers) {
    if (const auto mark = read(text, expected, start)) return *mark;
  }
  Mark none;
  none.end = start;
  return none;
}

}  // namespace

Mark read_mark(Text text, int expected, size_t start) {
  const char32_t first = start < text.size() ? text[start] : U'\0';
  const bool is_latin = (first >= U'A' && first <= U'Z') || (first >= U'a' && first <= U'z');
  if (is_latin) return read_with(kOfLatin, text, expected, start);
  return is_digit(first) ? read_with(kOfDigits, text, expected, start) : read_with(kAll, text, expected, start);
}

}  // namespace rubricrm::rubric
