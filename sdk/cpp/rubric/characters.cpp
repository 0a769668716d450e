#include "rubric/characters.h"

#include <algorithm>
#include <cstdio>

#include "rubric/tables.h"

namespace rubricrm::rubric {

bool is_ascii(Text text) {
  return std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 128; });
}

bool is_space(char32_t character) { return character_class::kSpace.holds(character); }

bool is_line_break(char32_t character) { return contains(U"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", character); }

bool is_alphanumeric(char32_t character) { return character_class::kAlphanumeric.holds(character); }

bool is_lower(char32_t character) { return character_class::kLower.holds(character); }

bool is_upper(char32_t character) { return character_class::kUpper.holds(character); }

bool is_digit(char32_t character) { return character_class::kDigit.holds(character); }

bool is_decimal(char32_t character) { return character_class::kDecimal.holds(character); }

bool is_decimal(Text text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char32_t c) { return is_decimal(c); });
}

int64_t decimal_value(Text text) {
  int64_t value = 0;
  for (const char32_t character : text) {
    // The digits of a script stand in a row: a digit's value is its place in its range.
    const CharacterClass& digits = character_class::kDecimal;
    const CharacterRange* const range = std::find_if(
        digits.ranges, digits.ranges + digits.num_ranges,
        [character](const CharacterRange& digits_of_script) { return character <= digits_of_script.last; });
    value = value * 10 + (character - range->first) % 10;
  }
  return value;
}

Text slice(Text text, size_t start, size_t end) {
  end = std::min(end, text.size());
  return start < end ? text.substr(start, end - start) : Text();
}

Text last(Text text, size_t count) { return text.substr(text.size() - std::min(count, text.size())); }

bool starts_with(Text text, Text start) { return text.substr(0, start.size()) == start; }

bool ends_with(Text text, Text end) { return text.size() >= end.size() && last(text, end.size()) == end; }

bool contains(Text text, Text part) { return text.find(part) != Text::npos; }

bool contains(Text text, char32_t character) { return text.find(character) != Text::npos; }

namespace {

template <class Holds>
Text strip_start_of(Text text, Holds holds) {
  while (!text.empty() && holds(text.front())) text.remove_prefix(1);
  return text;
}

template <class Holds>
Text strip_end_of(Text text, Holds holds) {
  while (!text.empty() && holds(text.back())) text.remove_suffix(1);
  return text;
}

auto one_of(Text characters) {
  return [characters](char32_t character) { return contains(characters, character); };
}

}  // namespace

Text strip_start(Text text) { return strip_start_of(text, is_space); }

Text strip_start(Text text, Text characters) { return strip_start_of(text, one_of(characters)); }

Text strip_end(Text text) { return strip_end_of(text, is_space); }

Text strip_end(Text text, Text characters) { return strip_end_of(text, one_of(characters)); }

Text strip(Text text) { return strip_start(strip_end(text)); }

Text strip(Text text, Text characters) { return strip_start(strip_end(text, characters), characters); }

bool is_blank(Text text) { return std::all_of(text.begin(), text.end(), is_space); }

std::vector<Text> split(Text text) {
  std::vector<Text> words;
  for (text = strip_start(text); !text.empty(); text = strip_start(text)) {
    const size_t end = std::find_if(text.begin(), text.end(), is_space) - text.begin();
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return words;
}

std::u32string join(const std::vector<Text>& words) {
  std::u32string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += U' ';
    text += words[i];
  }
  return text;
}

size_t count_words(Text text, size_t most) {
  size_t count = 0;
  for (text = strip_start(text); !text.empty() && count < most; text = strip_start(text)) {
    text.remove_prefix(std::find_if(text.begin(), text.end(), is_space) - text.begin());
    ++count;
  }
  return count;
}

std::u32string lower(Text text) {
  std::u32string small(text);
  for (char32_t& character : small) {
    if (character >= U'A' && character <= U'Z') character += U'a' - U'A';
    if (character == U'\u212a') character = U'k';  // the sign of the kelvin
  }
  return small;
}

std::u32string casefold(Text text) {
  std::u32string folded;
  folded.reserve(text.size());
  const CaseFolding* const end = kCaseFoldings + kNumCaseFoldings;
  for (const char32_t character : text) {
    const CaseFolding* const found = std::lower_bound(
        kCaseFoldings, end, character, [](const CaseFolding& folding, char32_t c) { return folding.character < c; });
    if (found == end || found->character != character) {
      folded += character;
      continue;
    }
    for (const char32_t to : found->folded) {
      if (to != 0) folded += to;
    }
  }
  return folded;
}

bool has_no_case(Text text) {
  return std::none_of(text.begin(), text.end(), [](char32_t c) { return character_class::kCased.holds(c); });
}

std::u32string represent(Text text) {
  const char32_t quote = contains(text, U'\'') && !contains(text, U'"') ? U'"' : U'\'';
  std::u32string result(1, quote);
  for (const char32_t character : text) {
    const Text letters = U"\tt\nn\rr";
    const size_t known = letters.find(character);
    if (character == quote || character == U'\\') {
      result += U'\\';
      result += character;
    } else if (known != Text::npos && known % 2 == 0) {
      result += U'\\';
      result += letters[known + 1];
    } else if (character_class::kPrintable.holds(character)) {
      result += character;
    } else {
      char escaped[16];
      const char* const form = character < 0x100 ? "\\x%02x" : character < 0x10000 ? "\\u%04x" : "\\U%08x";
      std::snprintf(escaped, sizeof escaped, form, static_cast<unsigned>(character));
      for (const char* c = escaped; *c != 0; ++c) result += static_cast<char32_t>(*c);
    }
  }
  return result + quote;
}

}  // namespace rubricrm::rubric
