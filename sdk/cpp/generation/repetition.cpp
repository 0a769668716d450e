#include "generation/repetition.h"

#include <algorithm>
#include <string_view>

#include "text/unicode.h"
#include "text/utf8.h"

namespace rubricrm {
namespace {

constexpr int64_t kMinCycles = 4;
constexpr int64_t kMinTokens = 96;
constexpr int64_t kMinTokensWithoutLetters = 256;
constexpr int64_t kMinLetterBytesOfList = 12;
constexpr size_t kMaxDigits = 18;
constexpr int32_t kNumber = -1;  // a symbol that is no token

bool is_space(char byte) { return byte == ' ' || ('\t' <= byte && byte <= '\r'); }

std::string_view stripped(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return '0' <= c && c <= '9'; });
}

bool is_letter(const char* character) { return character_classes(next_character(character)) & CharacterClass::LETTER; }

}  // namespace

void Symbols::push(int32_t symbol) {
  const size_t size = all_.size();
  for (size_t period = 1; period <= kMaxPeriod; ++period) {
    int32_t& run = runs_[period - 1];
    run = period <= size && all_[size - period] == symbol ? run + 1 : 0;
  }
  all_.push_back(symbol);
}

Symbols::Cycle Symbols::cycle() const {
  for (int64_t period = 1; period <= kMaxPeriod; ++period) {
    const int64_t length = period + runs_[period - 1];
    if (length >= std::max(kMinTokens, kMinCycles * period)) return {period, length};
  }
  return {0, 0};
}

bool RepetitionDetector::push(int32_t token_id) {
  tokens_.push(token_id);
  push_counted(token_id);
  return is_circle() || is_counting_list();
}

void RepetitionDetector::push_counted(int32_t token_id) {
  const std::string written = texts_.token_bytes(token_id);
  const std::string_view digits = stripped(written);
  const bool is_digits = is_number(digits);
  const bool goes_on = is_digits && written.substr(0, digits.size()) == digits;
  if (!digits_.empty() && !goes_on) {
    numbers_[static_cast<int64_t>(counted_.all().size())] = std::stoll(digits_.substr(0, kMaxDigits));
    counted_.push(kNumber);
    digits_.clear();
  }
  if (is_digits) {
    digits_ += digits;
  } else {
    counted_.push(token_id);
  }
}

bool RepetitionDetector::is_circle() const {
  const auto [period, length] = tokens_.cycle();
  if (period == 0) return false;
  return length >= kMinTokensWithoutLetters || letter_bytes(tokens_.all(), period) > 0;
}

bool RepetitionDetector::is_counting_list() const {
  const auto [period, length] = counted_.cycle();
  // Numbers are compared once per cycle: that is soon enough, and cheap where they never count.
  if (period == 0 || length % period != 0) return false;
  const int64_t end = static_cast<int64_t>(counted_.all().size());
  const auto number_at = [this](int64_t at) {
    const auto found = numbers_.find(at);
    return found == numbers_.end() ? -1 : found->second;
  };
  std::vector<bool> changes(period);
  for (int64_t at = end - length; at < end; ++at) {
    const int64_t number = number_at(at), before = number_at(at - period);
    if (number != -1 && before != -1 && before != number) changes[at % period] = true;
  }
  int64_t last = -1;
  for (int64_t at = end - length; at < end; ++at) {
    const int64_t number = number_at(at);
    if (number == -1 || !changes[at % period]) continue;
    if (last != -1 && number != last + 1) return false;
    last = number;
  }
  return last != -1 && letter_bytes(counted_.all(), period) >= kMinLetterBytesOfList;
}

// The bytes of a cycle's letters. A character that the cycle's ends cut in two is left out.
int64_t RepetitionDetector::letter_bytes(const std::vector<int32_t>& symbols, int64_t period) const {
  std::string bytes;
  for (auto symbol = symbols.end() - period; symbol != symbols.end(); ++symbol) {
    if (*symbol != kNumber) bytes += texts_.token_bytes(*symbol);
  }
  int64_t letters = 0;
  for (std::string_view rest = bytes; !rest.empty();) {
    const Utf8Start start = utf8_start(rest);
    if (start.kind == Utf8Start::WHOLE && is_letter(rest.data())) letters += start.length;
    rest.remove_prefix(start.length);
  }
  return letters;
}

}  // namespace rubricrm
