#include "rubric/numeral.h"

#include <algorithm>
#include <vector>

#include "rubric/tables.h"

namespace rubricrm::rubric {
namespace {

constexpr Text kHanDigits[] = {U"零〇", U"一壹",   U"二两兩贰貳", U"三叁參", U"四肆",
                               U"五伍", U"六陆陸", U"七柒",       U"八捌",   U"九玖"};
constexpr Text kTens = U"十拾", kHundreds = U"百佰";
constexpr Text kWords[] = {U"one",   U"two",   U"three", U"four", U"five",   U"six",
                           U"seven", U"eight", U"nine",  U"ten",  U"eleven", U"twelve"};
constexpr Text kRomanLetters = U"ivxlc";
constexpr int kRomanValues[] = {1, 5, 10, 50, 100};
constexpr char32_t kKeycap = U'\u20e3';

const NumeralCharacter* find(char32_t character) {
  const NumeralCharacter* const end = kNumeralCharacters + kNumNumeralCharacters;
  const NumeralCharacter* const found =
      std::lower_bound(kNumeralCharacters, end, character,
                       [](const NumeralCharacter& known, char32_t wanted) { return known.character < wanted; });
  return found != end && found->character == character ? found : nullptr;
}

// In normal form NFKC and without regard to case. In a numeral no character changes with its neighbors.
std::u32string fold(Text written) {
  std::u32string folded;
  for (const char32_t character : written) {
    const NumeralCharacter* const known = find(character);
    if (known == nullptr) folded += character;
    for (size_t i = 0; known != nullptr && i < std::size(known->folded) && known->folded[i] != 0; ++i) {
      folded += known->folded[i];
    }
  }
  return folded;
}

int roman(Text written) {
  if (written.empty() || !patterns::numeral::kRoman.full_match(written)) return 0;
  int sum = 0, largest = 0;
  for (auto letter = written.rbegin(); letter != written.rend(); ++letter) {
    const int value = kRomanValues[kRomanLetters.find(*letter)];
    largest = std::max(largest, value);
    sum += value < largest ? -value : value;
  }
  return sum;
}

// The value of a Chinese numeral; 0 for other text.
int han(Text written) {
  int total = 0, digit = 0;
  for (const char32_t character : written) {
    const auto* const found = std::find_if(std::begin(kHanDigits), std::end(kHanDigits),
                                           [character](Text digits) { return contains(digits, character); });
    const int unit = contains(kTens, character) ? 10 : contains(kHundreds, character) ? 100 : 0;
    if (unit != 0) {
      total += (digit != 0 ? digit : 1) * unit;
      digit = 0;
    } else if (found != std::end(kHanDigits)) {
      digit = digit * 10 + static_cast<int>(found - std::begin(kHanDigits));
    } else {
      return 0;
    }
  }
  return total + digit;
}

int word(Text written) {
  const auto* const found = std::find(std::begin(kWords), std::end(kWords), written);
  return found == std::end(kWords) ? 0 : static_cast<int>(found - std::begin(kWords)) + 1;
}

int keycaps(Text written) {
  std::u32string digits(written);
  digits.erase(std::remove(digits.begin(), digits.end(), kKeycap), digits.end());
  return is_decimal(digits) && digits.size() != written.size() ? static_cast<int>(decimal_value(digits)) : 0;
}

// Every number that it may stand for, the likeliest first.
std::vector<int> values(Text written) {
  std::vector<int> found;
  if (is_decimal(written)) return {static_cast<int>(decimal_value(written))};
  if (const NumeralCharacter* const known = written.size() == 1 ? find(written[0]) : nullptr) {
    std::copy_if(std::begin(known->values), std::end(known->values), std::back_inserter(found),
                 [](int value) { return value >= 0; });
    return found;
  }
  const std::u32string folded = fold(written);
  if (is_decimal(folded)) return {static_cast<int>(decimal_value(folded))};
  for (const int number : {roman(folded), han(folded), word(folded), keycaps(folded)}) {
    if (number != 0) found.push_back(number);
  }
  return found;
}

}  // namespace

std::optional<int> number_of(Text written, int expected) {
  const std::vector<int> all = values(written);
  if (std::find(all.begin(), all.end(), expected) != all.end()) return expected;
  return all.empty() ? std::nullopt : std::optional<int>(all[0]);
}

}  // namespace rubricrm::rubric
