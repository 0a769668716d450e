// Form C: what is in it already stays, runs are normalized for themselves, and the tables are sorted. The characters
// themselves are compared with `tokenizers` by tests/native and by tests/cases/tokenizer.
#include "text/nfc.h"

#include "expect.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace {

using namespace rubricrm;

std::string composed(const std::string& text) {
  std::string storage;
  return std::string(normalize_nfc(text, storage));
}

std::string text_of(std::initializer_list<char32_t> characters) {
  std::string text;
  for (const char32_t character : characters) append_character(text, character);
  return text;
}

void test_tables_are_sorted() {
  for (size_t at = 1; at < kNumCombiningRanges; ++at) {
    EXPECT(kCombiningRanges[at - 1].last < kCombiningRanges[at].first, "range %zu", at);
  }
  for (size_t at = 1; at < kNumDecompositions; ++at) {
    EXPECT(kDecompositions[at - 1].character < kDecompositions[at].character, "decomposition %zu", at);
  }
  for (size_t at = 1; at < kNumCompositions; ++at) {
    const Composition &a = kCompositions[at - 1], &b = kCompositions[at];
    EXPECT(a.first < b.first || (a.first == b.first && a.second < b.second), "composition %zu", at);
  }
}

void test_pairs_compose() {
  for (size_t at = 0; at < kNumCompositions; ++at) {
    const Composition& pair = kCompositions[at];
    EXPECT(composed(text_of({pair.first, pair.second})) == text_of({pair.character}), "U+%04X", pair.character);
  }
  for (char32_t syllable = 0xAC00; syllable < 0xD7A4; ++syllable) {
    const char32_t index = syllable - 0xAC00, trail = index % 28;
    std::string parts = text_of({0x1100 + index / 588, 0x1161 + index / 28 % 21});
    if (trail != 0) parts += text_of({0x11A7 + trail});
    EXPECT(composed(parts) == text_of({syllable}), "U+%04X", syllable);
  }
}

void test_form_c_stays_what_it_is() {
  const std::string text = "The response \u00e9\u4e2d\uac01\U0001f642 a\u0334 x\u0327\u0301";
  std::string storage;
  const std::string_view same = normalize_nfc(text, storage);
  EXPECT(same == text, "%s", std::string(same).c_str());
  for (char32_t character = 0; character < 0x110000; ++character) {
    if (character >= 0xD800 && character < 0xE000) continue;
    const std::string once = composed(text_of({'a', character, 0x301, 'b', character}));
    EXPECT(composed(once) == once, "U+%04X", character);
    const bool changes = character_classes(character) & CharacterClass::CHANGES;
    EXPECT((composed(text_of({character})) != text_of({character})) == changes, "U+%04X", character);
  }
}

// The runs of a text, each in form C, are the text's form C.
void test_runs_are_normalized_for_themselves() {
  Numbers numbers(11);
  const char32_t characters[] = {'a',   'e',    ' ',    0xE9,   0x301,  0x323,  0x334,   0x345,
                                 0x327, 0x212B, 0x1100, 0x1161, 0x11A8, 0xAC00, 0x3042,  0x3099,
                                 0x9C7, 0x9BE,  0x958,  0x344,  0x1F71, 0xF900, 0x2F800, 0x1D15E};
  for (int round = 0; round < 20000; ++round) {
    std::string text, joined;
    for (int count = numbers.integer(1, 12); count > 0; --count) {
      append_character(text, characters[numbers.integer(0, 23)]);
    }
    for (std::string_view rest = text; !rest.empty();) {
      const size_t length = normalization_run(rest);
      EXPECT(length > 0 && length <= rest.size(), "round %d", round);
      joined += composed(std::string(rest.substr(0, length)));
      rest.remove_prefix(length);
    }
    EXPECT(joined == composed(text), "round %d", round);
    EXPECT(find_invalid_utf8(joined) == std::string::npos, "round %d", round);
  }
}

}  // namespace

int main() {
  test_tables_are_sorted();
  test_pairs_compose();
  test_form_c_stays_what_it_is();
  test_runs_are_normalized_for_themselves();
  return failures != 0;
}
