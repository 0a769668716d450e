#include "runtime/pre_tokenizer.h"

#include "text/unicode.h"
#include "text/utf8.h"

namespace rubricrm {
namespace {

// The expression of Qwen, but for numbers.
#define RUBRICRM_QWEN(numbers)                                              \
  R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" numbers       \
  R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"
constexpr std::string_view kQwen = RUBRICRM_QWEN(R"(\p{N})");
constexpr std::string_view kLlama = RUBRICRM_QWEN(R"(\p{N}{1,3})");
#undef RUBRICRM_QWEN

using Class = CharacterClass;

// The classes at a position, and where the next character begins.
struct Character {
  uint8_t classes;
  const char* after;

  explicit Character(const char* at) {
    const auto byte = static_cast<unsigned char>(*at);
    if (byte < 0x80) {
      classes = kClassBlocks[0][byte];
      after = at + 1;
    } else {
      classes = character_classes(next_character(at));
      after = at;
    }
  }
  bool is(unsigned mask) const { return (classes & mask) != 0; }
};

constexpr unsigned kSpaceLetterNumber = Class::SPACE | Class::LETTER | Class::NUMBER;

// The end of the run of characters from `at` that have one of these classes, at most `limit` of them.
const char* run_of(unsigned mask, const char* at, const char* end, int limit = INT32_MAX) {
  while (at != end && limit-- > 0) {
    const Character character(at);
    if (!character.is(mask)) break;
    at = character.after;
  }
  return at;
}

const char* run_without(unsigned mask, const char* at, const char* end) {
  while (at != end) {
    const Character character(at);
    if (character.is(mask)) break;
    at = character.after;
  }
  return at;
}

bool is_line_break(char c) { return c == '\r' || c == '\n'; }

// The length of 's|'t|'re|'ve|'m|'ll|'d at `at`, an apostrophe; 0 if there is none.
size_t contraction(const char* at, const char* end, bool ignores_case) {
  const auto letter = [&](int offset) {
    if (end - at <= offset) return '\0';
    const char c = at[offset];
    return ignores_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  // The long s folds to s.
  if (ignores_case && first == '\xC5' && second == '\xBF') return 3;
  return 0;
}

// \s+(?!\S)|\s+ : all of a run of spaces at the end of the text, else all but its last, but one at least.
const char* spaces(const char* at, const char* end) {
  const char* last = at;
  const char* after = at;
  while (after != end) {
    const Character character(after);
    if (!character.is(Class::SPACE)) return last == at ? after : last;
    last = after;
    after = character.after;
  }
  return end;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ : up to the last line break of a run of spaces, if it has one.
const char* spaces_of_lines(const char* at, const char* end) {
  const char* const after = run_of(Class::SPACE, at, end);
  for (const char* back = after; back != at; --back) {
    if (is_line_break(back[-1])) return back;
  }
  return spaces(at, end);
}

const char* qwen_piece(const char* at, const char* end, int most_digits) {
  if (*at == '\'') {
    if (const size_t length = contraction(at, end, true)) return at + length;
  }
  const Character first(at);
  if (first.is(Class::LETTER)) return run_of(Class::LETTER, first.after, end);
  if (first.is(Class::NUMBER)) return run_of(Class::NUMBER, at, end, most_digits);
  // Any one character but a line break joins the letters after it.
  if (!is_line_break(*at) && first.after != end) {
    const Character second(first.after);
    if (second.is(Class::LETTER)) return run_of(Class::LETTER, second.after, end);
  }
  const char* const signs = *at == ' ' ? first.after : at;
  if (const char* const after = run_without(kSpaceLetterNumber, signs, end); after != signs) {
    const char* lines = after;
    while (lines != end && is_line_break(*lines)) ++lines;
    return lines;
  }
  return spaces_of_lines(at, end);
}

const char* gpt2_piece(const char* at, const char* end) {
  if (*at == '\'') {
    if (const size_t length = contraction(at, end, false)) return at + length;
  }
  const char* const start = *at == ' ' ? at + 1 : at;
  if (start == end) return end;
  const Character first(start);
  if (first.is(Class::LETTER)) return run_of(Class::LETTER, first.after, end);
  if (first.is(Class::NUMBER)) return run_of(Class::NUMBER, first.after, end);
  if (!first.is(Class::SPACE)) return run_without(kSpaceLetterNumber, first.after, end);
  return spaces(at, end);
}

const char* digits_piece(const char* at, const char* end, int most_digits) {
  const char* const after = run_of(Class::NUMERIC, at, end, most_digits);
  return after != at ? after : run_without(Class::NUMERIC, at, end);
}

}  // namespace

std::optional<PreTokenizer::Rule> PreTokenizer::split_rule(std::string_view expression) {
  if (expression == kQwen) return Rule::QWEN;
  if (expression == kLlama) return Rule::LLAMA;
  return std::nullopt;
}

size_t PreTokenizer::piece_length(Rule rule, std::string_view text) {
  const char* const at = text.data();
  const char* const end = at + text.size();
  const auto piece_end = [&] {
    switch (rule) {
      case Rule::QWEN:
        return qwen_piece(at, end, 1);
      case Rule::LLAMA:
        return qwen_piece(at, end, 3);
      case Rule::GPT2:
        return gpt2_piece(at, end);
      case Rule::DIGITS:
        return digits_piece(at, end, 1);
      case Rule::DIGIT_GROUPS:
        return digits_piece(at, end, INT32_MAX);
    }
    return end;
  };
  return static_cast<size_t>(piece_end() - at);
}

}  // namespace rubricrm
